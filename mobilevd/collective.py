"""Work that all processes of a launcher do together: shares, results that everyone gets, and errors that end everyone.

Objects travel between the processes' memories (gloo), not through the GPUs, and only between processes of one run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState

from mobilevd.errors import ToldByAnother, UserError
from mobilevd.patience import PATIENCE
from mobilevd.plain_text import one_line

Result = TypeVar("Result")


def gather(processes: PartialState, value: Any) -> list[Any]:
    """The values of all processes in the order of their ranks, in every process."""
    if processes.num_processes == 1:
        return [value]
    values: list[Any] = [None] * processes.num_processes
    torch.distributed.all_gather_object(values, value, group=_cpu_group())
    return values


def together(processes: PartialState, work: Callable[[], Result]) -> Result:
    """The result of `work` in each process, once all have done it; an error in one ends all.

    What `work` raises is raised by its own process; the others raise `UserError` with one line that names it. None waits
    for one that has failed. `work` must not wait for the other processes itself.
    """
    return together_gathered(processes, work)[processes.process_index]


def together_gathered(processes: PartialState, work: Callable[[], Result]) -> list[Result]:
    """The results of `work` of all processes in the order of their ranks; errors as in `together`."""
    if processes.num_processes == 1:
        return [work()]
    result, error = None, None
    try:
        result = work()
    except Exception as raised:  # Ctrl-C and the end of the process reach all of them by the launcher
        error = raised
    told = gather(processes, (result, None if error is None else _described(error)))
    if error is not None and (not isinstance(error, UserError) or _first_error(told) == processes.process_index):
        raise error
    if (first := _first_error(told)) is not None:
        raise ToldByAnother(f"process {first}: {told[first][1]}")
    return [cast(Result, each[0]) for each in told]


def from_first(processes: PartialState, work: Callable[[], Result]) -> Result:
    """The result of `work` in the main process, given to all; the others wait for it, and end with it."""
    return together_gathered(processes, lambda: cast(Result, work() if processes.is_main_process else None))[0]


def in_rounds(
    processes: PartialState,
    count: int,
    work: Callable[[int], Result],
    on_done: Callable[[int], None] | None = None,
) -> list[Result]:
    """The results of work(0) ... work(count - 1), in every process, each made by one process.

    The processes take one piece each, round by round, so that an error in one ends all within a round, and pieces are the
    same whatever the number of processes. `on_done` is called with the number of pieces that are done.
    """
    results: list[Result] = []
    for start in range(0, count, processes.num_processes):
        mine = start + processes.process_index
        part = together_gathered(processes, lambda mine=mine: cast(Result, work(mine) if mine < count else None))
        results += part[: count - start]
        if on_done is not None:
            on_done(len(results))
    return results


@cache
def _cpu_group() -> Any:
    """A group of all processes that talks through their memories; None if the default one does."""
    if "gloo" in torch.distributed.get_backend():
        return None
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


def _described(error: Exception) -> str:
    text = one_line(str(error)) or "no message"
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text[:500]}"


def _first_error(told: list[Any]) -> int | None:
    return next((rank for rank, (_, text) in enumerate(told) if text is not None), None)
