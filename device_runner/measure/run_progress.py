"""How far a job's runs are, and how long they will take, from the number of lines that the runner has printed.

All of it happens in this process between two looks at the device; the process that is timed knows nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from device_runner.devices.job import by_lines
from device_runner.protocol.protocol import Protocol

TIMED, MEMORY, LOAD = "timed", "memory", "load-"
LEAST_TIMED_RUNS, LEAST_TIMED_S = 2, 1.0
"""Runs and seconds that must be seen before their speed is worth an estimate."""


class RunProgress:
    """A job's `told`, for a runner that prints one line per event: the load, each warm-up run, each timed run."""

    def __init__(self, protocol: Protocol, clock: Callable[[], float] = time.monotonic) -> None:
        self._protocol, self._clock = protocol, clock
        self._first: tuple[float, int] | None = None
        """Time at which the first run was seen, and the number of runs by then; `_last` is that of the newest run."""
        self._last = (0.0, 0)

    def __call__(self, step: str, lines: int) -> tuple[str, float | None]:
        """Return a text such as `run 312 of at least 1024, about 2 min left`, and the finished share if it is known."""
        if step.startswith(LOAD):
            return f"load {step.removeprefix(LOAD)} of {self._protocol.cold_loads}, timed alone", None
        if step == MEMORY:
            return "measuring the memory, in a run of its own", None
        return self._timed(lines) if step == TIMED else by_lines(step, lines)

    def _timed(self, lines: int) -> tuple[str, float | None]:
        warmup = self._protocol.warmup
        finished = lines - 1  # the first line is of the load
        if finished < 0:
            return "loading the program", None
        run_s, begun = self._speed(finished)
        if finished < warmup:
            return f"warm-up run {finished + 1} of {warmup}{self._left(0, run_s)[0]}", None
        left, share = self._left(finished - warmup + begun, run_s)
        return f"run {self._of_how_many(finished - warmup)}{left}", share

    def _of_how_many(self, timed: int) -> str:
        protocol = self._protocol
        if protocol.confidence is None and not protocol.min_seconds:
            return f"{min(timed + 1, protocol.iterations)} of {protocol.iterations}"
        if timed < protocol.iterations:
            return f"{timed + 1} of at least {protocol.iterations}"
        if protocol.confidence is None:
            return f"{timed + 1}, on until they took {protocol.min_seconds:g} s"
        limit = f", at most {protocol.max_iterations}" if protocol.max_iterations is not None else ""
        return f"{timed + 1}{limit}, on until the median is known to {100 * protocol.confidence:g} %"

    def _speed(self, finished: int) -> tuple[float | None, float]:
        """Seconds of a run, None until enough were seen; and the share of the run after them that should be done."""
        now = self._clock()
        if finished > 0 and self._first is None:
            self._first = now, finished
        if finished > self._last[1]:
            self._last = now, finished
        if self._first is None:
            return None, 0.0
        seconds, runs = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if runs < LEAST_TIMED_RUNS or seconds < LEAST_TIMED_S:
            return None, 0.0
        run_s = seconds / runs
        return run_s, min(1.0, (now - self._last[0]) / run_s)

    def _left(self, timed: float, run_s: float | None) -> tuple[str, float | None]:
        """The time left in words, and the finished share; of runs that go on until a median is known, the longest time."""
        protocol = self._protocol
        if run_s is None:
            return "", None
        took_s = timed * run_s
        left_s = max((protocol.iterations - timed) * run_s, protocol.min_seconds - took_s, 0.0)
        if protocol.confidence is None or timed < protocol.iterations:
            least = "at least" if protocol.confidence is not None else "about"
            return f", {least} {duration(left_s)} left", took_s / (took_s + left_s) if took_s + left_s > 0 else None
        limits_s = []
        if protocol.max_iterations is not None:
            limits_s.append((protocol.max_iterations - timed) * run_s)
        if protocol.max_seconds is not None:
            limits_s.append(protocol.max_seconds - took_s)
        return f", at most {duration(max(0.0, min(limits_s)))} left", None


def duration(seconds: float) -> str:
    """A length of time as one would say it: `40 s`, `12 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
