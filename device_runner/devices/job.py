"""What a device is asked to do, and what it hands back: files, commands, and their raw results.

A job knows nothing of models or of how files reach a device; a device knows nothing of what the commands mean. So a
new runner needs no change to any device, and a new device none to any runner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILES = "{files}"
"""In a step's command and environment: the folder that the job's files lie in, on the device."""
OUT = "{out}"
"""In a step's command and environment: the step's own folder on the device, empty when it starts."""


@dataclass(frozen=True)
class Step:
    """One command of a job."""

    name: str
    """Letters, digits and dashes; no two steps of a job share one."""
    command: tuple[str, ...]
    """Arguments, none of which a shell sees; `FILES` and `OUT` in them stand for folders."""
    outputs: tuple[str, ...] = ()
    """Files in `OUT` that are handed back."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Files and the commands to run on them, one after the other; after one that fails the rest is not run."""

    key: str
    """Hex SHA-256 of all that decides what is run: a run on a device may be taken up again only under an equal key."""
    title: str
    """For messages: bundle and program."""
    files: Mapping[str, Path]
    """Name under `FILES` (relative, slashes) -> file on this machine."""
    executables: frozenset[str]
    """Those of `files` that are programs."""
    sha256: Mapping[str, str]
    """Of `files` where it is known already."""
    steps: tuple[Step, ...]
    timeout_s: float
    """For all steps together; then everything is killed."""
    cpu_mask: str | None = None
    """Hexadecimal, for `taskset`; None: all cores."""
    sample_state_s: float | None = None
    """How often the device notes its own state meanwhile; None: not at all."""
    output_bytes: int = 0
    """That the steps will write, for the check of free space."""


@dataclass(frozen=True)
class RawRun:
    """What one step left, before anything of it is believed."""

    device: str
    exit_code: int
    """Negative N: killed by signal N."""
    stdout: str
    stderr: str
    output_dir: Path
    """On this machine; holds the step's output files."""


@dataclass(frozen=True)
class RawJob:
    """What a job left."""

    steps: Mapping[str, RawRun]
    """Of every step that ran."""
    started: str
    """UTC, ISO 8601."""
    state_before: dict[str, Any]
    """Just before the first step."""
    state_after: dict[str, Any]
    series: list[dict[str, Any]] = field(default_factory=list)
    """States noted meanwhile (`Job.sample_state_s`), each with `uptime_s`: seconds since the device started."""
    transfer: dict[str, Any] = field(default_factory=dict)
    """`pushed_bytes`, `push_s`, `kept_bytes` (already there), `taken_up` (a run that an earlier call had started)."""


@dataclass(frozen=True)
class Platform:
    """What decides which binaries a device runs."""

    system: str
    """`linux`, `android` or `macos`."""
    abi: str
    """Android's names: `x86_64`, `arm64-v8a`, `armeabi-v7a`, `x86`."""
    emulated: str | None = None
    """How it was seen that the processor is emulated (its times are then no latencies); None: it is real."""


Ready = Callable[[], None]
"""Called by a device when all files are in place, just before the first step: the place to wait until it is cool."""
Progress = Callable[[str, float | None], None]
"""What goes on ("pushing unet.pte", "running") and how much of it is done, 0 to 1 (None: not known)."""
