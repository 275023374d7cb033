"""One bench per phone: a measurement beside another is none."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from device_runner.building.cache import default_cache_dir
from device_runner.errors import RunnerError

PATIENCE_S = 0.5
"""A process that was killed while it started adb holds on, through that child, until adb has begun."""


def place(serial: str, ending: str) -> Path:
    """A file of ours about one device; serials may hold anything."""
    folder = default_cache_dir() / "adb"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunnerError(f"{folder}: cannot be made: {error.strerror}; set MOBILEVD_CACHE to another folder") from None
    return folder / f"{re.sub('[^A-Za-z0-9.-]', lambda match: f'_{ord(match[0]):x}', serial)}.{ending}"


@contextmanager
def sole_use(serial: str) -> Iterator[None]:
    """Hold the device for this process; `RunnerError` names the one that holds it. The system lets go if we die."""
    try:
        import fcntl
    except ImportError:  # Windows: left to its user
        yield
        return
    path = place(serial, "lock")
    try:
        file: IO[str] = open(path, "a+")  # noqa: SIM115 (closed below: closing is what lets go)
    except OSError as error:
        raise RunnerError(f"{path}: cannot be written: {error.strerror}") from None
    with file:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() < end:
                    time.sleep(0.05)
                    continue
                file.seek(0)
                holder = file.read().strip() or "another one"
                raise RunnerError(
                    f"adb:{serial} is in use by process {holder}; a measurement beside another is none"
                ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
