"""The contract between runners and the measuring code: files, commands, and a reader of what they print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from device_runner.bundle.read import Bundle, BundleProgram
from device_runner.devices.job import RawRun, Step
from device_runner.protocol.protocol import Protocol as MeasuringProtocol

PROGRAM = "program"
"""Name of the program under the job's files, without its ending (`program.pte`)."""
RUNNER = "runner"
"""Folder under the job's files that holds the runner's own files."""


def program_name(program: BundleProgram) -> str:
    """Path of the program under the job's files."""
    return PROGRAM + program.file.suffix


def input_name(index: int) -> str:
    """Path of a reference input under the job's files."""
    return f"input_{index}.bin"


@dataclass(frozen=True)
class OutputFile:
    """A program's output as a runner left it; a field is None if the runner does not report it."""

    path: Path
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Readings:
    """The readings of a runner's steps, complete and consistent. Times are in milliseconds."""

    loads: list[dict[str, float]]
    """`total`, and where known `program` (opening the file) and `method` (preparing delegates and weights), for each
    process that loaded the program: cold loads first, the timed one last."""
    warmup_ms: list[float]
    samples_ms: list[float]
    """Every timed run, in order; empty for a runner that gives averages only."""
    outputs: list[OutputFile]
    """Outputs of the timed process, in the program's order."""
    starts_s: list[float] = field(default_factory=list)
    """Start of each timed run, in seconds since the start of the first."""
    first_start_uptime_s: float | None = None
    """Start of the first timed run, in seconds since the device started: relates `samples_ms` to `RawJob.series`."""
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time of all threads together, per timed run."""
    average_ms: float | None = None
    """Mean of `iterations` timed runs, for a runner that gives no samples."""
    iterations: int = 0
    stop: str = "count"
    """Reason why the timed runs ended: `count`, `confidence`, `max_iterations` or `max_seconds`."""
    memory: dict[str, int] = field(default_factory=dict)
    """`peak_rss_bytes`, `minor_faults`, `major_faults`, `program_bytes`; and for the timed runs `involuntary_switches`,
    the times that the system took a core from them; each where known."""
    affinity: str | None = None
    """Hexadecimal mask of the cores that the timed process could run on; None if the runner does not report it."""
    notes: list[str] = field(default_factory=list)
    """Limits of this runner that a reader of the figures must know, such as what it cannot report."""


class Runner(Protocol):
    """A program that runs ExecuTorch, ONNX or Core ML programs."""

    name: str
    targets: frozenset[str]
    """Targets of the bundles that it runs."""

    def files(self) -> Mapping[str, Path]:
        """The runner's files: name under `RUNNER` -> file on this machine. Built or searched for on the first call."""
        ...

    def executables(self) -> frozenset[str]:
        """Names in `files` that are programs."""
        ...

    def versions(self) -> dict[str, str]:
        """Versions of the runner, its runtime and its compiler, as far as known."""
        ...

    def steps(self, program: BundleProgram, protocol: MeasuringProtocol) -> list[Step]:
        """The commands, the timed one named `timed`; the program and its inputs lie at the paths of `program_name` and
        `input_name`.

        Raises `RunnerError` for settings that this runner cannot keep to.
        """
        ...

    def read(self, runs: Mapping[str, RawRun], program: BundleProgram, protocol: MeasuringProtocol) -> Readings:
        """Read what the steps printed and left.

        Raises `RunnerError` naming the condition that failed, if they are not complete and consistent.
        """
        ...


def form_of(runner: Runner) -> str | None:
    """The form in which a runner goes onto the device (`host`, `ndk`, `glibc`); None if it has a single form."""
    return getattr(runner, "form", None)


def tells_runs(runner: Runner) -> bool:
    """Whether a runner prints a line as soon as it has loaded the program, and one after each run."""
    return getattr(runner, "prints_events", False)


def check_target(runner: Runner, bundle: Bundle) -> str | None:
    """The reason why the runner cannot run the bundle, in one line; None if it can."""
    if bundle.target in runner.targets:
        return None
    return (
        f"{bundle.folder}: a bundle for {bundle.target} cannot be run by {runner.name}, which runs "
        f"{', '.join(sorted(runner.targets))}"
    )
