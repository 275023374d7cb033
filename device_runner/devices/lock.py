"""Locks that allow one measurement at a time on a device: two that share it are both wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from device_runner.building.cache import default_cache_dir
from device_runner.devices.job import Progress
from device_runner.errors import RunnerError

FILE = "host.lock"
WAIT_S = 5.0
"""Time to wait for a measurement that is about to end: a program of a few milliseconds is measured within that."""
POLL_S = 0.05


@contextmanager
def sole_use_of_host(progress: Progress) -> Iterator[None]:
    """Hold this machine for one measurement, against all others with the same `$MOBILEVD_CACHE`.

    Raises `RunnerError` naming the process that holds it, if that process goes on.
    """

    def busy(holder: str) -> str:
        return f"host: process {holder} is measuring on this machine; a measurement beside another is none"

    def waiting(holder: str) -> None:
        progress(f"waiting for process {holder}, which is measuring here", None)

    with hold(default_cache_dir() / FILE, WAIT_S, busy, waiting):
        yield


@contextmanager
def hold(
    path: Path, wait_s: float, busy: Callable[[str], str], waiting: Callable[[str], None] = lambda holder: None
) -> Iterator[None]:
    """Hold a lock file, which names its holder. The system releases it if this process dies.

    Args:
        wait_s: seconds to wait for another holder to end.
        busy: function from the holder's name to the error's text, if it did not end.
        waiting: function that gets the holder's name at intervals during the wait.

    Raises `RunnerError`: held by another process, or a file that cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows: left to its user
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file: IO[str] = open(path, "a+")  # noqa: SIM115 (closed below: closing is what lets go)
    except OSError as error:
        raise RunnerError(
            f"{path}: cannot be written: {error.strerror}; set MOBILEVD_CACHE to another folder"
        ) from None
    with file:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "another one"
                if time.monotonic() >= until:
                    raise RunnerError(busy(holder)) from None
                waiting(holder)
                time.sleep(POLL_S)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
