"""Shell text that devices run: POSIX only, for mksh with toybox (Android), dash and busybox."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator

from device_runner.errors import RunnerError

CALL_LENGTH = 20_000
"""Greatest length of the shell text that is combined into one call."""
LONGEST = 29_000
"""Greatest length of shell text in a call: Windows allows command lines of 32,767 characters, and adb adds its own."""
PIECE = 4_000
"""Characters of a longer text per call: quoting turns one (`'`) into up to seven, for the shell, then for Windows."""

# A run's `pid` file holds: process id, its start time in clock ticks since boot, boot id, start in seconds since 1970.
# Process ids are reused, so only a process with the same start time under the same boot is the run's.
# A command's parent is adbd: `parent` identifies it by process id and start time too.
# Some versions of `sleep` accept whole seconds only and end at once with an error: `sleep 0.1 || sleep 1`.
# Fields of /proc/PID/stat are counted after the name, which may hold blanks: 1 state, 3 group, 4 session, 20 start.
PROCESSES = r"""
boot=unknown
{ read -r boot < /proc/sys/kernel/random/boot_id; } 2>/dev/null
read_pid() {
pid=; start=; pid_boot=; began=
{ read -r pid start pid_boot began < "$1/pid"; } 2>/dev/null
case "$pid$start" in ''|*[!0-9]*) return 1 ;; esac
}
alive() {
read_pid "$1" && [ "$pid_boot" = "$boot" ] && { read -r line < "/proc/$pid/stat"; } 2>/dev/null || return 1
set -- ${line##*) }
[ "$1" != Z ] && [ "${20}" = "$start" ]
}
parent() {
adbd=
{ read -r line < "/proc/$PPID/stat"; } 2>/dev/null || return 0
set -- ${line##*) }
adbd="$PPID ${20}"
}
members() {
found=
if { read -r line < "/proc/$pid/stat"; } 2>/dev/null; then
set -- ${line##*) }
[ "${20}" = "$start" ] || return 0
fi
for stat in /proc/[0-9]*/stat; do
{ read -r line < "$stat"; } 2>/dev/null || continue
set -- ${line##*) }
[ "$3" = "$pid" ] && [ "$4" = "$pid" ] && [ "$1" != Z ] || continue
stat="${stat%/stat}"
found="$found ${stat#/proc/}"
done 2>/dev/null
}
stop() {
tries=0
while [ -d "$1/claimed" ] && [ ! -f "$1/pid" ] && [ $tries -lt 10 ]; do tries=$((tries + 1)); sleep 0.1 || sleep 1; done
read_pid "$1" && [ "$pid_boot" = "$boot" ] || return 0
tries=0
members
while [ -n "$found" ] && [ $tries -lt 50 ]; do
kill -KILL $found 2>/dev/null
sleep 0.1 || sleep 1
tries=$((tries + 1))
members
done
[ -z "$found" ] || { echo "processes$found do not end" >&2; return 1; }
}
"""


def quote(*arguments: str) -> str:
    """Arguments quoted so that the device's shell receives each of them whole."""
    return " ".join(shlex.quote(argument) for argument in arguments)


def length(text: str) -> int:
    """Characters on a command line; Windows needs a backslash before each quotation mark and maybe each backslash."""
    return len(text) + text.count('"') + text.count("\\")


def together(command: str, places: Iterable[str]) -> Iterator[str]:
    """Command lines that give a command all places, as many per line as its length allows."""
    line = ""
    for place in map(quote, places):
        if line and length(line) + length(place) > CALL_LENGTH:
            yield line
            line = ""
        line = f"{line or command} {place}"
    if line:
        yield line


def written(text: str, place: str) -> Iterator[str]:
    """Command lines that write a text and a newline to a file, which appears only when it is whole."""
    part, whole = quote(f"{place}.part"), text + "\n"
    for start in range(0, len(whole), PIECE):
        yield f"printf %s {quote(whole[start : start + PIECE])} {'>>' if start else '>'} {part}"
    sha = hashlib.sha256(whole.encode()).hexdigest()
    yield f'sum="$(sha256sum < {part})" && [ "${{sum%% *}}" = {sha} ] && mv -f {part} {quote(place)}'


def calls(lines: Iterable[str]) -> Iterator[str]:
    """Shell commands made of the lines, as few as their length allows; each stops at the first line that fails."""
    text = ""
    for line in lines:
        if length(line) > LONGEST:
            raise RunnerError(f"a command for the device is too long ({len(line)} characters): {line[:80]}...")
        if text and length(text) + length(line) > CALL_LENGTH:
            yield text
            text = ""
        text = f"{text} &&\n{line}" if text else line
    if text:
        yield text
