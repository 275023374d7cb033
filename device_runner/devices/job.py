"""The jobs that devices run, and their raw results: files, commands, and what the commands left.

A job knows nothing of models or of how files reach a device; a device knows nothing of what the commands mean. So a
new runner needs no change to any device, and a new device none to any runner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILES = "{files}"
"""Placeholder in a step's command and environment for the folder of the job's files on the device."""
OUT = "{out}"
"""Placeholder in a step's command and environment for the step's own folder on the device, empty when it starts."""


Told = Callable[[str, int], tuple[str, float | None]]
"""From a step's name and the number of lines that it has printed: the text for `Progress`, and the finished share."""


def by_lines(step: str, lines: int) -> tuple[str, float | None]:
    """What can be told of a step whose lines have no known meaning."""
    return f"running {step} ({lines} lines)", None


@dataclass(frozen=True)
class Step:
    """One command of a job."""

    name: str
    """Letters, digits and dashes; unique within the job."""
    command: tuple[str, ...]
    """Arguments, none of which passes through a shell; `FILES` and `OUT` in them stand for folders."""
    outputs: tuple[str, ...] = ()
    """Names of the files in `OUT` that are handed back."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Files and the commands to run on them, one after the other; the first that fails ends the job."""

    key: str
    """Hex SHA-256 of everything that decides what is run: a run on a device may be resumed only under an equal key."""
    title: str
    """Bundle and program, for messages."""
    files: Mapping[str, Path]
    """Name under `FILES` (relative, slashes) -> file on this machine."""
    executables: frozenset[str]
    """Names in `files` that are programs."""
    sha256: Mapping[str, str]
    """Name in `files` -> hex SHA-256, where it is known already."""
    steps: tuple[Step, ...]
    timeout_s: float
    """Time limit of all steps together; then everything is killed."""
    cpu_mask: str | None = None
    """Hexadecimal mask for `taskset`; None for all cores."""
    sample_state_s: float | None = None
    """Interval at which the device records its state while the steps run; None for not at all."""
    output_bytes: int = 0
    """Size that the steps will write, for the check of free space."""
    told: Told = field(default=by_lines, compare=False)
    """How a device tells the progress of the steps; it changes nothing of what is run."""


@dataclass(frozen=True)
class RawRun:
    """The unchecked result of one step."""

    device: str
    exit_code: int
    """Exit code of the command; -N if signal N killed it."""
    stdout: str
    stderr: str
    output_dir: Path
    """Folder on this machine with the step's output files."""


@dataclass(frozen=True)
class RawJob:
    """The unchecked result of a job."""

    steps: Mapping[str, RawRun]
    """Name -> result of every step that ran."""
    started: str
    """Time of the start in UTC, ISO 8601."""
    state_before: dict[str, Any]
    """The device's state just before the first step."""
    state_after: dict[str, Any]
    series: list[dict[str, Any]] = field(default_factory=list)
    """States noted during the steps (`Job.sample_state_s`), each with `uptime_s`: seconds since the device started."""
    transfer: dict[str, Any] = field(default_factory=dict)
    """`pushed_bytes`, `push_s`, `kept_bytes` (already there), `taken_up` (an earlier call's run was resumed)."""


@dataclass(frozen=True)
class Platform:
    """The properties that decide which binaries a device runs."""

    system: str
    """`linux`, `android` or `macos`."""
    abi: str
    """Android's name of the processor: `x86_64`, `arm64-v8a`, `armeabi-v7a`, `x86`."""
    emulated: str | None = None
    """Evidence that the processor is emulated, so that its times are no latencies; None for a real processor."""


Ready = Callable[[], None]
"""Called by a device when all files are in place, just before the first step; may wait until the device is cool."""
Progress = Callable[[str, float | None], None]
"""Called with the current activity ("pushing unet.pte") and its finished share, 0 to 1 (None: not known)."""
