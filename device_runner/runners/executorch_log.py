"""The log of ExecuTorch's own example runners: on stderr, or on Android in the system's log."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import Platform, RawRun
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.runners.events import failure_text

TAG = "ExecuTorch"

# "I 00:00:00.000526 executorch:executor_runner.cpp:82] Model file a.pte is loaded."
POSIX_LINE = re.compile(r"^[A-Z] \d+:\d{2}:\d{2}\.\d+ executorch:[^]]*\] ?(.*)$")
# "11-21 17:22:49.123  4123  4123 I ExecuTorch: Model ..." (threadtime), "I/ExecuTorch( 4123): Model ..." (brief, time)
LOGCAT_LINE = re.compile(
    rf"^(?:\d\d-\d\d [\d:.]+ +)?(?:\d+ +\d+ [A-Z] {TAG} *: |[A-Z]/{TAG} *\( *\d+\): )(?:\[[\w.]+:\d+\] )?(.*)$"
)

# The runner works in its own output folder ($1): it may leave files in its working folder, so that must be its own.
PLAIN_SCRIPT = 'cd "$1" || exit 125; shift; exec "$@"'
# The marker ($0) tells this run's lines of the system's log from those of earlier runs. The same step fetches the log,
# since no step follows one that failed, and then the log is needed most. Lines appear with a delay: a second marker,
# which no earlier run can have left, shows that all of them are there.
_LOGCAT = f"logcat -d -v threadtime -s {TAG}:V"
ANDROID_SCRIPT = (
    f'cd "$1" || exit 125; shift; log -t {TAG} "$0"; "$@"; code=$?; log -t {TAG} "$0-end-$$"; tries=0; '
    f'while [ $tries -lt 10 ] && ! {_LOGCAT} 2> /dev/null | grep -q -e "$0-end-$$"; '
    f"do tries=$((tries + 1)); sleep 0.1 || sleep 1; done; {_LOGCAT} >&2; exit $code"
)


def wrapped(command: list[str], folder: str, platform: Platform, marker: str, before: str = "") -> tuple[str, ...]:
    """The command in a shell whose working folder is `folder` on the device, with its log on stderr.

    Args:
        before: shell text to run first, in that folder.
    """
    script = ANDROID_SCRIPT if platform.system == "android" else PLAIN_SCRIPT
    script = script.replace("shift;", f"shift; {before};", 1) if before else script
    return ("sh", "-c", script, marker, folder, *command)


def marker_of(name: str, program: BundleProgram, protocol: Protocol) -> str:
    """The marker of a measurement; equal ones share it, so that one can be resumed. The last one in a log counts."""
    decides: list[Any] = [name, program.name, program.file.name, protocol.to_json()]
    return "mobilevd-" + hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def messages(run: RawRun, marker: str) -> list[str]:
    """The messages that this run logged, without times and places.

    Raises `RunnerError` with the last message for a run that failed.
    """
    found = []
    for line in run.stderr.replace("\r", "").split("\n"):
        if match := POSIX_LINE.match(line) or LOGCAT_LINE.match(line):
            found.append(match[1].strip())
    if marker in found:
        found = found[len(found) - found[::-1].index(marker) :]
        end = next((index for index, line in enumerate(found) if line.startswith(f"{marker}-end-")), len(found))
        found = found[:end]
    elif any(line.startswith("mobilevd-") for line in found):
        raise RunnerError(
            f"{run.device}: the system's log does not hold this run any more; raise its size: logcat -G 4M"
        )
    if run.exit_code != 0:
        last = f": {found[-1][:300]}" if found else ""
        # Without a log of its own, `failure_text` would take the output of `logcat` for the last line.
        text = failure_text(RawRun(run.device, run.exit_code, "", "" if found else run.stderr, run.output_dir))
        raise RunnerError(f"{run.device}: {text}{last}")
    return found


def identity(path: Path) -> str:
    """A program's name and the beginning of its SHA-256: it reports no version, and may be rebuilt."""
    with path.open("rb") as file:
        return f"{path.name} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"


def only_match(run: RawRun, log: list[str], pattern: str, what: str) -> re.Match[str]:
    """The message that matches the pattern; raises `RunnerError` if there is none."""
    for line in log:
        if match := re.fullmatch(pattern, line):
            return match
    raise RunnerError(f"{run.device}: the runner's log does not say {what}; it says: {' | '.join(log[-3:])[:300]!r}")


def check_method(run: RawRun, log: list[str], program: BundleProgram) -> None:
    """Check that the method of the bundle ran; these runners take the first method of a program."""
    method = only_match(run, log, r"Using method (\S+)", "which method it ran")[1]
    if method != program.method:
        raise RunnerError(f"{run.device}: the runner ran method {method!r}, {program.method!r} was asked for")


def refuse_what_a_fixed_count_cannot_do(name: str, protocol: Protocol) -> None:
    """Raise `RunnerError` for the first setting of the protocol that needs a runner which watches its own times."""
    for setting, asked in (
        ("min_seconds", protocol.min_seconds > 0),
        ("confidence", protocol.confidence is not None),
        ("cold_loads", protocol.cold_loads > 0),
        ("memory_pass", protocol.memory_pass),
        ("weight_cache", protocol.weight_cache == "on"),
    ):
        if asked:
            raise RunnerError(
                f"{name} runs a fixed number of times, tells neither memory nor loads and leaves the backend as it is: "
                f"it cannot keep to {setting} of protocol {protocol.name!r}; take the protocol default or quick, or the "
                "runner mobilevd"
            )
