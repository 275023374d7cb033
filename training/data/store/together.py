"""What processes that work on one task tell each other while they work: how far they are, and that one failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar

from accelerate import PartialState

from mobilevd.collective import from_first, gather
from mobilevd.errors import ToldByAnother, UserError

Result = TypeVar("Result")

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
        """The result of the first process's call, in all processes; its error ends all."""
        return from_first(self.processes, function)

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes, in all processes."""
        return [item for part in gather(self.processes, items) for item in part]

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
        if messages and not told:
            raise ToldByAnother(messages[0])
        if messages:
            raise UserError(told)


class _Stopped(Exception):
    """Another process failed."""
