"""A function over many items in several processes, which may crash on one of them without harm to the others."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from mobilevd.ctrl_c import children_deaf_to_ctrl_c
from mobilevd.errors import UserError

ATTEMPTS = 2  # at an item whose process ended: it may have been killed for no fault of the item


@dataclass(frozen=True)
class Crashed:
    """In place of a result: the process ended over the item, every time it was tried."""

    exit_code: int | None

    def __str__(self) -> str:
        code = self.exit_code or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"


@dataclass
class _Worker:
    process: BaseProcess
    number: int  # of its item


def over_items(function: Callable[[Any], Any], items: Sequence[Any], processes: int) -> Iterator[tuple[int, Any]]:
    """Yield (number of the item, function(item)) as they come.

    New processes are spawned; `function` is one of a module, items and results are sent to and fro. They end when the
    iteration ends or is left, also by Ctrl-C, and when this process is killed.

    Args:
        processes: how many at once; 0: in this process.

    Raises UserError if processes end as soon as they begin, and RuntimeError with the traceback of what `function`
    raised.
    """
    if processes == 0:
        yield from ((number, function(item)) for number, item in enumerate(items))
        return
    waiting = list(range(len(items) - 1, -1, -1))  # from the end
    tried = dict[int, int]()
    working: dict[Connection, _Worker] = {}
    ended_in_a_row = 0
    try:
        while waiting or working:
            while waiting and len(working) < processes:
                connection, process = _start(function)
                _give(connection, items, waiting, working, process)
            for connection in wait(list(working)):
                assert isinstance(connection, Connection)
                worker = working.pop(connection)
                try:
                    failure, result = connection.recv()
                except (EOFError, OSError):
                    connection.close()
                    worker.process.join()
                    ended_in_a_row += 1
                    tried[worker.number] = tried.get(worker.number, 0) + 1
                    if tried[worker.number] < ATTEMPTS:
                        waiting.append(worker.number)
                    elif ended_in_a_row > ATTEMPTS * (processes + 1):
                        raise UserError(
                            f"the processes that read videos end at once ({Crashed(worker.process.exitcode)}): give "
                            "data.workers=0 to read them in this one"
                        ) from None
                    else:
                        yield worker.number, Crashed(worker.process.exitcode)
                    continue
                if failure:
                    raise RuntimeError(f"in a process that reads videos:\n{failure}")
                ended_in_a_row = 0
                if waiting:
                    _give(connection, items, waiting, working, worker.process)
                else:
                    _end(connection, worker.process)
                yield worker.number, result
    finally:
        for connection, worker in working.items():
            worker.process.terminate()
            _end(connection, worker.process)


def _give(
    connection: Connection,
    items: Sequence[Any],
    waiting: list[int],
    working: dict[Connection, _Worker],
    process: BaseProcess,
) -> None:
    number = waiting.pop()
    working[connection] = _Worker(process, number)
    with suppress(OSError):  # it ended: the answer tells
        connection.send(items[number])


def _start(function: Callable[[Any], Any]) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")  # a fork would copy locks of threads that it does not copy
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    with children_deaf_to_ctrl_c():
        process.start()
    theirs.close()
    return ours, process


def _end(connection: Connection, process: BaseProcess) -> None:
    connection.close()
    process.join()


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """The life of a worker: items in, results out, until nobody is there any more."""
    with suppress(EOFError, OSError):
        while True:
            item = connection.recv()
            try:
                answer = ("", function(item))
            except Exception:
                answer = (traceback.format_exc(), None)
            connection.send(answer)
