"""The time of a .pte program, operator by operator, from ExecuTorch's event trace (ETDump).

ExecuTorch's wheels are built with XNNPACK's profiling, so even a program that is one delegate gives the time of each
operator inside it, under XNNPACK's own names ("Convolution (NHWC, F32) IGEMM"). Each is measured in whole microseconds,
rounded down: an operator that takes less reads as 0, and `Profile.unaccounted_ms` holds the sum of what is lost.
"""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from export.quiet import native_output_held, quietly
from mobilevd.errors import UserError

WARMUP_RUNS = 1
OUTSIDE = "native_call_"  # beginning of the trace's name of an operator that no delegate took
DELEGATE, METHOD = "DELEGATE_CALL", "Method::execute"


class Event(NamedTuple):
    """An operator of the program, in the order of execution: its name in the runtime, and its median time.

    `outside`: no delegate took it; the runtime's own kernel computes it.
    """

    operator: str
    ms: float
    outside: bool = False


class OperatorTime(NamedTuple):
    """All operators of one name together."""

    operator: str
    count: int
    ms: float


@dataclass(frozen=True)
class Profile:
    """One evaluation, the median of several.

    Attributes:
        events: every operator.
        total_ms: time of the method as a whole.
    """

    events: list[Event]
    total_ms: float

    @property
    def unaccounted_ms(self) -> float:
        """Time in no operator's: rounding down to microseconds, copies of inputs and outputs, the trace itself.

        On a busy machine it also holds pauses: one that hits an operator in one run of several is not in that
        operator's median.
        """
        return self.total_ms - sum(event.ms for event in self.events)

    @property
    def outside_share(self) -> float:
        """Share of the whole time that operators outside any delegate take, 0 to 1."""
        return sum(event.ms for event in self.events if event.outside) / self.total_ms if self.total_ms else 0.0


def profile_program(file: Path, inputs: Sequence[Tensor], threads: int, runs: int = 3) -> list[OperatorTime]:
    """Time per operator of one evaluation, those that take most first; see `trace_program`."""
    return by_operator(trace_program(file, inputs, threads, runs).events)


def by_operator(events: Iterable[Event]) -> list[OperatorTime]:
    """The events of each name together, those that take most time first."""
    found: dict[str, OperatorTime] = {}
    for event in events:
        before = found.get(event.operator, OperatorTime(event.operator, 0, 0.0))
        found[event.operator] = OperatorTime(event.operator, before.count + 1, before.ms + event.ms)
    return sorted(found.values(), key=lambda row: -row.ms)


def trace_program(file: Path, inputs: Sequence[Tensor], threads: int, runs: int = 3) -> Profile:
    """Run a program with ExecuTorch's event tracer and read what it wrote.

    Args:
        file: a .pte; its method `forward` is run.
        runs: number of runs that count; one more warms up.

    Raises:
        UserError: there is no such file, or the trace does not hold equal runs.
        RuntimeError: the runtime cannot load or run the program.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such program to profile")
    with tempfile.TemporaryDirectory() as folder, native_output_held() as said, quietly():
        dump = Path(folder) / "trace.etdp"
        try:
            _write_trace(file, inputs, threads, WARMUP_RUNS + runs, dump)
        except RuntimeError as error:
            raise RuntimeError(f"{file}: {error}\n{said()}") from error
        return read_trace(dump, runs, WARMUP_RUNS)


def read_trace(dump: Path, runs: int, warmup: int = 0) -> Profile:
    """Read an ETDump of `warmup + runs` equal evaluations of one method, of which the first `warmup` do not count.

    Raises:
        UserError: there is no such file, it is no ETDump, or it does not hold exactly those evaluations.
    """
    if not dump.is_file():
        raise UserError(f"{dump}: there is no such trace")
    try:
        with quietly():
            events = _events(dump)
    except Exception as error:  # the reader checks nothing: struct's, flatbuffers' and its own errors come through
        raise UserError(f"{dump}: cannot be read as an ETDump ({error!r})") from None
    method = [event for event in events if event.name == METHOD]
    found = sorted({len(event.perf_data.raw) for event in events})
    if len(method) != 1 or found != [warmup + runs]:
        raise UserError(
            f"{dump}: the trace must hold {warmup + runs} equal evaluations of one method; it holds {len(method)} "
            f"different ones, with {', '.join(map(str, found)) or 'no'} times each"
        )
    timed = [(event.name, statistics.median(event.perf_data.raw[warmup:])) for event in events]
    inside = any(event.is_delegated_op for event in events)
    operators = [
        Event(re.sub(r" #\d+$", "", name).removeprefix(OUTSIDE), ms, name.startswith(OUTSIDE))
        for (name, ms), event in zip(timed, events, strict=True)
        # a delegate without events of its own is one operator; OPERATOR_CALL repeats what is outside
        if event.is_delegated_op or name.startswith(OUTSIDE) or (name == DELEGATE and not inside)
    ]
    return Profile(operators, next(ms for name, ms in timed if name == METHOD))


def _write_trace(file: Path, inputs: Sequence[Tensor], threads: int, runs: int, dump: Path) -> None:
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    # a debug buffer would hold every tensor; one that is too small aborts the process
    program = Runtime.get().load_program(file, enable_etdump=True, debug_buffer_size=0)
    method: Any = program.load_method("forward")
    for _ in range(runs):
        method.execute(list(inputs))
    program.write_etdump_result_to_file(str(dump), str(dump.with_suffix(".debug")))


def _events(dump: Path) -> list[Any]:
    """The events of `Inspector`'s block of executions, each with its times of all runs."""
    from executorch.devtools import Inspector

    blocks = [block for block in Inspector(etdump_path=str(dump)).event_blocks if block.name == "Execute"]
    return [event for block in blocks for event in block.events if event.perf_data is not None]
