"""A survey of what earlier calls left on the device, in one round trip."""

from __future__ import annotations

import re
from dataclasses import dataclass

from device_runner.devices.adb.client import Adb, storage_full
from device_runner.devices.adb.remote import PROCESSES, quote
from device_runner.errors import RunnerError

BASE = "/data/local/tmp/mobilevd"
"""Base folder, the one place where Android's shell user may both write and run programs."""
STAT = "TZ=UTC0 stat -c '{}%s %i %Y %z'"
"""Command for size, inode, and times of the last content change and of any change: if these equal the record made after
hashing, the file is unchanged.

The last time has fractions of a second (`%Z`, seconds since 1970, would hide a change within the same second). It is
therefore a date, which must not depend on the phone's time zone.
"""
_RUN = re.compile(r"run ([0-9a-f]{16}-[0-9a-f]{8}) ([01]) (\d+|-) (\S+) (\d+|-) ([0-9a-f]{64}|-)")


@dataclass(frozen=True)
class Stored:
    """A file of the store."""

    size_bytes: int
    stat: str
    noted: str | None
    """Value of `stat` when the content was last hashed."""
    used: int
    """Time at which a job last needed it, seconds since 1970."""

    @property
    def intact(self) -> bool:
        return self.stat == self.noted


@dataclass(frozen=True)
class RunFolder:
    """A run that an earlier call began."""

    name: str
    key: str | None
    alive: bool
    finished: int | None
    """Time of the end, in seconds since 1970 by the device's clock; None if it has not finished."""
    began: int | None
    this_boot: bool


@dataclass(frozen=True)
class Survey:
    """The result of a survey."""

    boot: str
    now: int
    """Time of the survey, in seconds since 1970 by the device's clock."""
    free_bytes: int | None
    lacks: frozenset[str]
    """Tools that the device does not have."""
    store: dict[str, Stored]
    """SHA-256 -> file."""
    runs: list[RunFolder]


_SCRIPT = (
    PROCESSES
    + """
base={base}
for folder in "$base" "$base/files" "$base/runs"; do
if [ -L "$folder" ]; then echo "link $folder"; exit 0; fi
mkdir -p "$folder" || exit 1
done
cd "$base" || exit 1
rm -rf files/in-* files/*.part
echo "boot $boot"
echo "now $(date +%s)"
for tool in setsid sha256sum stat taskset; do command -v "$tool" > /dev/null || echo "lacks $tool"; done
df -k . | while read -r line; do echo "df $line"; done
{stat} files/* 2> /dev/null
for note in files/*.ok; do { read -r line < "$note"; } 2> /dev/null && echo "ok $note $line"; done
for run in runs/*; do
[ -d "$run" ] || continue
alive=0; alive "$run" && alive=1
read_pid "$run"
finished=-; { read -r finished < "$run/finished"; } 2> /dev/null
key=-; { read -r key < "$run/key"; } 2> /dev/null
echo "run ${run#runs/} $alive ${finished:--} ${pid_boot:--} ${began:--} ${key:--}"
done
:
"""
)


def survey(adb: Adb, base: str) -> Survey:
    """Make the base folder and survey it; remove partial files that an earlier push left.

    Raises `RunnerError` if the folder cannot be used or the device lacks a tool that every job needs.
    """
    script = _SCRIPT.replace("{base}", quote(base)).replace("{stat}", STAT.format("file %n "))
    answer = adb.shell_answer(script)
    lines = answer.stdout.splitlines()
    if answer.code:
        if "No space left" in answer.stderr:
            raise RunnerError(storage_full(adb.name))
        raise RunnerError(f"{adb.name}: {base} cannot be used: {answer.stderr.strip()[-200:]}")
    if links := [line[5:] for line in lines if line.startswith("link ")]:
        raise RunnerError(f"{adb.name}: {links[0]} is a link, which might lead anywhere; remove it")
    boot = next((line[5:] for line in lines if line.startswith("boot ")), "")
    lacks = frozenset(line[6:] for line in lines if line.startswith("lacks "))
    if missing := lacks - {"taskset"}:
        raise RunnerError(
            f"{adb.name}: the device has no {' and no '.join(sorted(missing))}; Android 8 or newer is needed"
        )
    return Survey(
        boot,
        next((int(line[4:]) for line in lines if re.fullmatch(r"now \d+", line)), 0),
        free_bytes([line[3:] for line in lines if line.startswith("df ")]),
        lacks,
        _store(lines),
        [
            RunFolder(
                match[1],
                match[6] if match[6] != "-" else None,
                match[2] == "1",
                int(match[3]) if match[3] != "-" else None,
                int(match[5]) if match[5] != "-" else None,
                match[4] == boot,
            )
            for line in lines
            if (match := _RUN.fullmatch(line))
        ],
    )


def free_bytes(df: list[str]) -> int | None:
    """Free bytes from the output of `df -k` (also if a long name takes a line of its own); None if not found."""
    match = re.search(r"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", " ".join(df[1:]))
    return int(match[3]) * 1024 if match else None


def _store(lines: list[str]) -> dict[str, Stored]:
    stats, notes = {}, {}
    for line in lines:
        if match := re.fullmatch(r"file files/([0-9a-f]{64}(?:\.ok)?) ((\d+) \d+ (\d+) .+)", line):
            stats[match[1]] = match
        elif match := re.fullmatch(r"ok files/([0-9a-f]{64})\.ok (.+)", line):
            notes[match[1]] = match[2]
    store = {}
    for name, match in stats.items():
        if not name.endswith(".ok"):
            used = stats.get(f"{name}.ok", match)[4]
            store[name] = Stored(int(match[3]), match[2], notes.get(name), int(used))
    return store
