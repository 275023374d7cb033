"""Takes ExecuTorch's event trace of a program on a device, in a separate run because tracing slows the program down."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from device_runner.bundle.read import Bundle, BundleProgram
from device_runner.bundle.unchanged import check_unchanged
from device_runner.devices.base import Device
from device_runner.devices.job import Progress, RawRun, Step
from device_runner.errors import RunnerError
from device_runner.measure.make_job import make_job
from device_runner.measure.measure import no_progress
from device_runner.measure.outputs import check_outputs
from device_runner.protocol.protocol import Protocol as MeasuringProtocol
from device_runner.runners.base import Readings, Runner

RUNS = 3


@runtime_checkable
class TracingRunner(Protocol):
    """A runner that can write an ETDump."""

    def profile_step(self, program: BundleProgram, protocol: MeasuringProtocol, runs: int) -> Step:
        """The command of a step with warm-up and then `runs` runs, which alone are in the trace."""
        ...

    def read_profile(
        self, run: RawRun, program: BundleProgram, protocol: MeasuringProtocol, runs: int
    ) -> tuple[Readings, Path]:
        """The readings of the step and the path of its ETDump; raises `RunnerError` if it failed or is incomplete."""
        ...


def tracing_step(runner: Runner, program: BundleProgram, protocol: MeasuringProtocol) -> tuple[TracingRunner, Step]:
    """The runner and its tracing command; raises `RunnerError` for a runner that cannot trace."""
    if not isinstance(runner, TracingRunner):
        raise RunnerError(f"the runner {runner.name} writes no trace; leave --profile out, or use the runner mobilevd")
    return runner, runner.profile_step(program, protocol, RUNS)


def take_trace(
    bundle: Bundle,
    program: BundleProgram,
    device: Device,
    protocol: MeasuringProtocol,
    runner: Runner,
    output_dir: Path,
    progress: Progress = no_progress,
) -> Path:
    """Run a program `RUNS` times with the tracer on; return the path of the ETDump in `output_dir`, an empty folder.

    Raises `RunnerError`: a runner that cannot trace, a run that failed, outputs that differ from the references.
    """
    tracing, step = tracing_step(runner, program, protocol)
    job = make_job(bundle, program, protocol, runner, [step])
    raw = device.run(job, output_dir, lambda: None, progress)
    readings, dump = tracing.read_profile(raw.steps[step.name], program, protocol, RUNS)
    check_outputs(device.name, readings.outputs, program, output_dir)
    check_unchanged(bundle, program)
    return dump
