"""Runs an ONNX graph on raw input files and times every iteration, in a process of its own.

Arguments, rules and events are those of the C++ runner (`runner/runner.cpp`), so that the same reader checks them.
An iteration is what an application pays per call: it passes the inputs anew and runs the graph.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_runner.protocol.protocol import Protocol
from device_runner.protocol.stop_rule import limit_reached, stop_reason
from device_runner.runners.worker import (
    METHOD,
    Failure,
    affinity,
    emit,
    emit_done,
    involuntary_switches,
    keep_stdout_for_events,
    one_line,
    parse,
    protocol_of,
    read_tensor,
    uptime_ns,
    worker_parser,
    write_outputs,
)

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class Sample:
    start_ns: int
    ns: int
    cpu_ns: int


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = worker_parser("onnxruntime_worker")
    parser.add_argument("--input", type=Path, action="append", default=[])
    return parse(parser, arguments)


def load(options: argparse.Namespace) -> onnxruntime.InferenceSession:
    """A session with the given number of threads; emits `load`."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    try:
        size = options.model.stat().st_size
        start = time.perf_counter_ns()
        # From a file, the runtime maps what it can; from memory, it has to copy.
        source = str(options.model) if options.load_mode == "mmap" else options.model.read_bytes()
        read = time.perf_counter_ns()
        session = onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise Failure("load", f"{options.model} could not be loaded: {one_line(error)}") from None
    end = time.perf_counter_ns()
    emit(
        "load",
        ns=end - start,
        program_ns=read - start,
        method_ns=end - read,
        threads=session.get_session_options().intra_op_num_threads,
        program_bytes=size,
        method=METHOD,
        load_mode=options.load_mode,
        affinity=affinity(),
    )
    return session


def read_inputs(session: onnxruntime.InferenceSession, paths: list[Path]) -> dict[str, np.ndarray]:
    wanted = session.get_inputs()
    if len(paths) != len(wanted):
        raise Failure("inputs", f"the graph takes {len(wanted)} inputs, {len(paths)} were given")
    inputs = {}
    for index, (value, path) in enumerate(zip(wanted, paths, strict=True)):
        if value.type not in DTYPES or not all(isinstance(size, int) for size in value.shape):
            raise Failure("inputs", f"input {index} is {value.type} {value.shape}; raw files need a fixed shape")
        inputs[value.name] = read_tensor(path, DTYPES[value.type], tuple(value.shape), f"input {index}")
    return inputs


def run_once(
    session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray], stage: str, index: int
) -> tuple[list[Any], Sample]:
    start_ns, cpu, wall = uptime_ns(), time.process_time_ns(), time.perf_counter_ns()
    try:
        outputs = session.run(None, inputs)
    except Exception as error:  # as in `load`
        raise Failure(stage, f"run {index} failed: {one_line(error)}") from None
    ns = time.perf_counter_ns() - wall
    return list(outputs), Sample(start_ns, ns, time.process_time_ns() - cpu)


def run_timed(
    session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray], protocol: Protocol
) -> tuple[list[Any], int, str]:
    """The outputs of the last run, the number of runs, and the reason why they ended."""
    samples: list[int] = []
    first_ns, next_look = 0, protocol.iterations
    while True:
        outputs, sample = run_once(session, inputs, "iteration", len(samples))
        emit("iteration", index=len(samples), start_ns=sample.start_ns, ns=sample.ns, cpu_ns=sample.cpu_ns)
        first_ns = first_ns or sample.start_ns
        samples.append(sample.ns)
        elapsed_ns = sample.start_ns + sample.ns - first_ns
        # The samples are evaluated again only when there are 2 % more of them, or at a limit.
        if limit_reached(len(samples), elapsed_ns, protocol) or len(samples) >= next_look:
            next_look = len(samples) + max(1, len(samples) // 50)
            if reason := stop_reason(samples, elapsed_ns, protocol):
                return outputs, len(samples), reason


def run(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    protocol = protocol_of(options)
    session = load(options)
    if options.iterations == 0:
        emit_done(0, "count")
        return
    inputs = read_inputs(session, options.input)
    for index in range(options.warmup):
        _, sample = run_once(session, inputs, "warmup", index)
        emit("warmup", index=index, ns=sample.ns, cpu_ns=sample.cpu_ns)
    before = involuntary_switches()
    outputs, count, stop = run_timed(session, inputs, protocol)
    switches = involuntary_switches() - before
    write_outputs(outputs, options.output_dir)
    emit_done(count, stop, switches)


def main() -> int:
    """The exit code: 0, or 1 after an `error` event."""
    keep_stdout_for_events()
    try:
        run(sys.argv[1:])
        return 0
    except Failure as failure:
        emit("error", stage=failure.stage, message=str(failure))
    except ImportError as error:
        emit("error", stage="load", message=f"onnxruntime cannot be imported: {one_line(error)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
