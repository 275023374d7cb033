"""The parts that the Python worker processes share: arguments, events, files; all as in the C++ runner (`runner/`)."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from device_runner.errors import RunnerError
from device_runner.protocol.protocol import LOAD_MODES, WEIGHT_CACHE, Protocol
from device_runner.runners.events import UNKNOWN

if TYPE_CHECKING:
    import numpy as np

METHOD = "forward"
"""Method name for a file with a single graph; the name that ExecuTorch gives to the method of its programs."""


FOR_EVER_S = 1e12
"""Time limit of a worker's protocol; the process that starts the worker keeps the real one."""


class Failure(Exception):
    """An error that stops the run and becomes the `error` event."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure("arguments", message)


def worker_parser(name: str) -> argparse.ArgumentParser:
    """A parser of the C++ runner's arguments, except those that name inputs and outputs."""
    parser = _Parser(prog=name, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--method", default=METHOD)
    parser.add_argument("--load-mode", choices=LOAD_MODES, default=LOAD_MODES[0])
    parser.add_argument("--weight-cache", choices=WEIGHT_CACHE, default=WEIGHT_CACHE[0])
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--min-seconds", type=float, default=0.0)
    parser.add_argument("--confidence", type=float)
    parser.add_argument("--max-iterations", type=int)
    parser.add_argument("--max-seconds", type=float)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Parse and check the arguments; raises `Failure`."""
    options = parser.parse_args(arguments)
    if options.method != METHOD:
        raise Failure("arguments", f"the program has one method, called {METHOD!r}, not {options.method!r}")
    if options.weight_cache == "on":
        raise Failure("arguments", "only ExecuTorch's programs have XNNPACK's weight cache")
    if options.iterations and options.output_dir is None:
        raise Failure("arguments", "--output-dir FOLDER is missing")
    return options


def protocol_of(options: argparse.Namespace) -> Protocol:
    """The protocol that decides when to stop; with one run for `--iterations 0`, which only loads."""
    try:
        return Protocol(
            warmup=options.warmup,
            iterations=options.iterations or 1,
            min_seconds=options.min_seconds,
            confidence=options.confidence,
            max_iterations=options.max_iterations,
            max_seconds=options.max_seconds,
            threads=options.threads,
            timeout_s=FOR_EVER_S,
        )
    except RunnerError as error:
        raise Failure("arguments", str(error)) from None


_events: IO[str] | None = None


def keep_stdout_for_events() -> None:
    """Reserve stdout for `emit`; what libraries print there, in Python or not, goes to stderr from now on."""
    global _events
    sys.stdout.flush()
    _events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)


def emit(event: str, **fields: Any) -> None:
    """Print one line and flush it, so that a crash does not lose what was measured before."""
    print(json.dumps({"event": event, **fields}, separators=(",", ":")), file=_events or sys.stdout, flush=True)


def read_tensor(path: Path, dtype: str, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Read a raw file of a tensor; raises `Failure` if it cannot be read or has another size."""
    import numpy as np

    expected = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure("inputs", f"{path}: could not be read: {error.strerror}") from None
    if len(data) != expected:
        raise Failure(
            "inputs",
            f"{what}, {path}, has {len(data)} bytes; the program takes {dtype} {list(shape)}, {expected} bytes",
        )
    return np.frombuffer(data, dtype).reshape(shape)


def write_outputs(outputs: list[Any], folder: Path) -> None:
    import numpy as np

    for index, output in enumerate(outputs):
        if not isinstance(output, np.ndarray):
            raise Failure("output", f"output {index} is not a tensor")
        name = f"output_{index}.bin"
        try:
            np.ascontiguousarray(output).tofile(folder / name)
        except OSError as error:
            raise Failure("output", f"{folder / name}: could not be written: {error.strerror}") from None
        emit("output", index=index, file=name, dtype=str(output.dtype), shape=list(output.shape), bytes=output.nbytes)


def involuntary_switches() -> int:
    """Number of times that the system has taken a core from this process although it wanted to go on."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def emit_done(iterations: int, stop: str, switches: int = 0) -> None:
    """Emit `done`.

    Args:
        switches: number of involuntary switches during the timed runs.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak_kb = usage.ru_maxrss // 1024 if sys.platform == "darwin" else usage.ru_maxrss
    # Linux includes in ru_maxrss what the starting process held before it became this one; VmHWM starts anew.
    peak_kb = _kilobytes("/proc/self/status", "VmHWM:", peak_kb)
    emit(
        "done",
        iterations=iterations,
        stop=stop,
        peak_rss_kb=peak_kb,
        pss_kb=_kilobytes("/proc/self/smaps_rollup", "Pss:", UNKNOWN),
        minor_faults=usage.ru_minflt,
        major_faults=usage.ru_majflt,
        involuntary_switches=switches,
    )


def uptime_ns() -> int:
    """Time since the machine started, where the system reports it: relates runs to other records of the same time."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def affinity() -> str:
    """The cores that this process may run on, as a hexadecimal mask; empty where unknown."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return f"{sum(1 << core for core in cores):x}" if cores else ""


def one_line(error: Exception) -> str:
    """The text of a library's exception in one line; it may have many lines or none."""
    return " ".join(str(error).split())[:500] or type(error).__name__


def _kilobytes(path: str, name: str, otherwise: int) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return otherwise
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), otherwise)
