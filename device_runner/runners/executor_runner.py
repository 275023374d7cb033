"""ExecuTorch's own `executor_runner`: runs the same programs independently of our runner, as a cross-check."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import FILES, OUT, Platform, RawRun, Step
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import RUNNER, OutputFile, Readings, input_name, program_name
from device_runner.runners.executorch_log import (
    check_method,
    identity,
    marker_of,
    messages,
    only_match,
    refuse_what_a_fixed_count_cannot_do,
    wrapped,
)

FILE = "executor_runner"


class ExecutorRunner:
    """`executor_runner` of ExecuTorch 1.x, built by the user for the device's platform.

    It has no warm-up and prints totals. Builds since 2026 also print every run and the load; the first runs can then be
    told apart.
    """

    name = "executor_runner"
    targets = frozenset({"executorch-xnnpack", "executorch-vulkan"})

    def __init__(self, path: Path | str, platform: Platform) -> None:
        self.path, self.platform = Path(path), platform
        if not self.path.is_file():
            raise RunnerError(
                f"{self.path}: there is no executor_runner; name the program that ExecuTorch's build made"
            )

    def files(self) -> Mapping[str, Path]:
        return {FILE: self.path}

    def executables(self) -> frozenset[str]:
        return frozenset({FILE})

    def versions(self) -> dict[str, str]:
        return {"executor_runner": identity(self.path)}

    def steps(self, program: BundleProgram, protocol: Protocol) -> list[Step]:
        refuse_what_a_fixed_count_cannot_do(self.name, protocol)
        inputs = ",".join(f"{FILES}/{input_name(index)}" for index in range(len(program.inputs)))
        command = [
            f"{FILES}/{RUNNER}/{FILE}",
            f"--model_path={FILES}/{program_name(program)}",
            f"--inputs={inputs}",
            f"--output_file={OUT}/output",
            f"--num_executions={protocol.warmup + protocol.iterations}",
            f"--cpu_threads={protocol.threads}",
        ]
        outputs = tuple(f"output-{index}.bin" for index in range(len(program.outputs)))
        marker = marker_of(self.name, program, protocol)
        return [Step("timed", wrapped(command, OUT, self.platform, marker), outputs)]

    def read(self, runs: Mapping[str, RawRun], program: BundleProgram, protocol: Protocol) -> Readings:
        run = runs["timed"]
        log = messages(run, marker_of(self.name, program, protocol))
        check_method(run, log, program)
        _check_threads(run, log, protocol)
        total = only_match(
            run, log, r"Model executed successfully (\d+) time\(s\) in ([\d.]+) ms\.", "how long its runs took"
        )
        count, total_ms = int(total[1]), float(total[2])
        asked = protocol.warmup + protocol.iterations
        if count != asked:
            raise RunnerError(f"{run.device}: asked for {asked} runs, the runner reports {count}")
        if not total_ms > 0:
            raise RunnerError(f"{run.device}: {count} runs took no time at all; the device's clock cannot be trusted")
        each = _each_run(run, log, count, total_ms)
        load = [match for line in log if (match := re.fullmatch(r"Model loaded in ([\d.]+) ms\.", line))]
        notes = [
            "executor_runner reads the program into memory, whatever load_mode says, tells no memory, and has XNNPACK's "
            "weight cache as its build does"
        ]
        if not each:
            notes.append(
                f"executor_runner has no warm-up and tells totals only: the average is of all {count} runs, the first "
                f"{protocol.warmup}, which the protocol takes for warm-up, among them"
            )
        return Readings(
            loads=[{"total": float(load[0][1])}] if load else [],
            warmup_ms=each[: protocol.warmup],
            samples_ms=each[protocol.warmup :],
            outputs=[OutputFile(run.output_dir / f"output-{index}.bin") for index in range(len(program.outputs))],
            average_ms=None if each else total_ms / count,
            iterations=protocol.iterations if each else count,
            notes=notes,
        )


def _check_threads(run: RawRun, log: list[str], protocol: Protocol) -> None:
    for line in log:
        if match := re.fullmatch(r"Resetting threadpool with num threads = (-?\d+)", line):
            if int(match[1]) != protocol.threads:
                raise RunnerError(f"{run.device}: asked for {protocol.threads} threads, the runner set {match[1]}")
            return
    if protocol.threads != 1:
        raise RunnerError(
            f"{run.device}: asked for {protocol.threads} threads, this executor_runner was built without a thread pool"
        )


def _each_run(run: RawRun, log: list[str], count: int, total_ms: float) -> list[float]:
    """Milliseconds of every run; empty for an older runner, which prints the total alone."""
    found = [match for line in log if (match := re.fullmatch(r"Iteration (\d+) of (\d+): ([\d.]+) ms", line))]
    if not found:
        return []
    times = [float(match[3]) for match in found]
    if [(int(match[1]), int(match[2])) for match in found] != [(index + 1, count) for index in range(count)]:
        raise RunnerError(f"{run.device}: the log tells {len(found)} runs, not 1 to {count} in order; lines were lost")
    # The times are printed with six digits after the point.
    if not math.isclose(sum(times), total_ms, rel_tol=1e-3, abs_tol=1e-6 * count):
        raise RunnerError(
            f"{run.device}: the runs take {sum(times):.3f} ms together, the runner says {total_ms:.3f} ms"
        )
    return times
