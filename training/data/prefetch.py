"""The next batch, read in a thread while the step before it is computed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

KEPT = 2
"""Announced batches that are kept: one that is being used up, and the next."""


class Prefetch(Generic[Key, Value]):
    """Calls `load(key)` ahead for the keys that are announced. What was not announced is loaded when it is asked for."""

    def __init__(self, load: Callable[[Key], Value]) -> None:
        self._load = load
        self._waiting: dict[Key, Future[Value]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def announce(self, key: Key) -> None:
        """Begin to load, unless it has begun."""
        if key in self._waiting:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-batch")
        self._waiting[key] = self._thread.submit(self._load, key)
        while len(self._waiting) > KEPT:  # announced and not asked for: the plan has changed
            self._waiting.pop(next(iter(self._waiting))).cancel()

    def take(self, key: Key) -> Value:
        """The value of a key; what its loading raised is raised here."""
        future = self._waiting.pop(key, None)
        return self._load(key) if future is None else future.result()
