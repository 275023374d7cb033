"""What a runner is to the measuring protocol: files, commands, and a parser of what they print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from device_runner.bundle.read import Bundle, BundleProgram
from device_runner.devices.job import RawRun, Step
from device_runner.protocol.protocol import Protocol as MeasuringProtocol

PROGRAM = "program"
"""Name under the job's files of the program (and its ending: `program.pte`)."""
RUNNER = "runner"
"""Folder under the job's files that holds the runner's own."""


def program_name(program: BundleProgram) -> str:
    """Where the program lies under the job's files."""
    return PROGRAM + program.file.suffix


def input_name(index: int) -> str:
    """Where a reference input lies under the job's files."""
    return f"input_{index}.bin"


@dataclass(frozen=True)
class OutputFile:
    """A program's output as a runner left it; None where the runner does not say."""

    path: Path
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Readings:
    """What a runner's steps say, once they are complete and consistent. Times in milliseconds."""

    loads: list[dict[str, float]]
    """`total`, and where known `program` (opening the file) and `method` (preparing delegates and weights), of each
    process that loaded the program: cold loads first, the timed one last."""
    warmup_ms: list[float]
    samples_ms: list[float]
    """Of every timed run, in order; empty for a runner that tells averages only."""
    outputs: list[OutputFile]
    """In the program's order, of the timed process."""
    starts_s: list[float] = field(default_factory=list)
    """When each timed run started, in seconds since the first one did."""
    first_start_uptime_s: float | None = None
    """When the first one did, in seconds since the device started: ties `samples_ms` to `RawJob.series`."""
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time of all threads together, per timed run."""
    average_ms: float | None = None
    """For a runner that tells no samples: mean of `iterations` timed runs."""
    iterations: int = 0
    stop: str = "count"
    """Why the timed runs ended: `count`, `confidence`, `max_iterations` or `max_seconds`."""
    memory: dict[str, int] = field(default_factory=dict)
    """Where known: `peak_rss_bytes`, `minor_faults`, `major_faults`, `program_bytes`; and of the timed runs
    `involuntary_switches`: how often the system took a core from them."""
    affinity: str | None = None
    """Hexadecimal mask of the cores that the timed process could run on; None where the runner does not say."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the figures must know of this runner: what it cannot tell."""


class Runner(Protocol):
    """A program that runs ExecuTorch, ONNX or Core ML programs."""

    name: str
    targets: frozenset[str]
    """Of bundles that it runs."""

    def files(self) -> Mapping[str, Path]:
        """Its own files: name under `RUNNER` -> file on this machine. Built or looked for on the first call."""
        ...

    def executables(self) -> frozenset[str]:
        """Those of `files` that are programs."""
        ...

    def versions(self) -> dict[str, str]:
        """Of the runner, its runtime and its compiler, as far as known."""
        ...

    def steps(self, program: BundleProgram, protocol: MeasuringProtocol) -> list[Step]:
        """The commands, the timed one named `timed`; the program and its inputs lie where `program_name` and
        `input_name` say.

        Raises `RunnerError` for settings that this runner cannot keep to.
        """
        ...

    def read(self, runs: Mapping[str, RawRun], program: BundleProgram, protocol: MeasuringProtocol) -> Readings:
        """What the steps say.

        Raises `RunnerError` saying which condition failed, if they are not complete and consistent.
        """
        ...


def form_of(runner: Runner) -> str | None:
    """In which of its forms it goes onto the device (`host`, `ndk`, `glibc`); None for a runner that has one only."""
    return getattr(runner, "form", None)


def check_target(runner: Runner, bundle: Bundle) -> str | None:
    """Why the runner cannot run the bundle, in one line; None if it can."""
    if bundle.target in runner.targets:
        return None
    return (
        f"{bundle.folder}: a bundle for {bundle.target} cannot be run by {runner.name}, which runs "
        f"{', '.join(sorted(runner.targets))}"
    )
