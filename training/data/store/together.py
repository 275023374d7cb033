"""What processes that work on one task tell each other while they work: how far they are, and that one failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from mobilevd.errors import UserError

Result = TypeVar("Result")
USER_MISTAKE = 2  # exit code, as the command line has it
TOLD_S = 1.0  # the launcher ends all processes when one ends: the first must have spoken by then

_tasks = count()  # every process counts the same tasks


class Team:
    """The processes of a task. All must make the object, and leave `working`."""

    def __init__(self, processes: PartialState) -> None:
        self.processes = processes
        self.name = f"mobilevd/{next(_tasks)}"
        self._done = 0
        self._store: Any = None
        if processes.num_processes > 1:
            from torch.distributed.distributed_c10d import _get_default_store

            self._store = _get_default_store()  # the launcher's; collectives would make the fast wait for the slow

    def first(self, function: Callable[[], Result]) -> Result:
        """The result of the first process's call, in all processes; so is its UserError."""
        box: list[Any] = [None, None]
        if self.processes.is_main_process:
            try:
                box = [function(), None]
            except UserError as error:
                box = [None, str(error)]
        if self._store is not None:
            broadcast_object_list(box)
        if box[1] is not None:
            self._end(box[1])
        return box[0]

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes, in all processes."""
        return gather_object(items) if self._store is not None else items

    def advance(self, clips: int) -> int:
        """Count clips that are done; return those of all processes."""
        self._done = self._store.add(f"{self.name}/done", clips) if self._store is not None else self._done + clips
        return self._done

    def check(self) -> None:
        """Stop if another process failed."""
        if self._store is not None and self._store.check([f"{self.name}/failed"]):
            raise _Stopped

    @contextmanager
    def working(self) -> Iterator[None]:
        """A context in which processes work by themselves. What one of them raises ends all, with one message."""
        told, raised = "", None
        try:
            yield
        except _Stopped:
            pass
        except UserError as error:
            told = str(error)
        except Exception as error:
            raised = error
            told = f"process {self.processes.process_index} failed: {type(error).__name__}: {error}"
        if told and self._store is not None:
            self._store.set(f"{self.name}/failed", told)
        messages = [message for message in self.gather([told]) if message]
        if raised is not None:
            raise raised
        if messages:
            self._end(messages[0])

    def _end(self, message: str) -> None:
        if self.processes.is_main_process:
            raise UserError(message)
        time.sleep(TOLD_S)
        raise SystemExit(USER_MISTAKE)


class _Stopped(Exception):
    """Another process failed."""
