"""One measurement at a time on this machine: two that share its cores are both wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from device_runner.building.cache import default_cache_dir
from device_runner.errors import RunnerError
from device_runner.job import Progress

FILE = "host.lock"
WAIT_S = 5.0
"""One that is about to end is waited for: a program of a few milliseconds is measured within that."""
POLL_S = 0.1


@contextmanager
def sole_use_of_host(progress: Progress) -> Iterator[None]:
    """Hold this machine for one measurement, against all others with the same `$MOBILEVD_CACHE`.

    Raises `RunnerError` naming the process that holds it and goes on. The system lets go of it if this process dies.
    """
    try:
        import fcntl
    except ImportError:  # Windows: left to its user
        yield
        return
    folder = default_cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file: IO[str] = open(folder / FILE, "a+")  # noqa: SIM115 (closed below: closing is what lets go)
    except OSError as error:
        raise RunnerError(
            f"{folder / FILE}: cannot be written: {error.strerror}; set MOBILEVD_CACHE to another folder"
        ) from None
    with file:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "another one"
                if time.monotonic() >= until:
                    raise RunnerError(
                        f"host: process {holder} is measuring on this machine; a measurement beside another is none"
                    ) from None
                progress(f"waiting for process {holder}, which is measuring here", None)
                time.sleep(POLL_S)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
