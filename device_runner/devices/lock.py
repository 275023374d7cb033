"""Locks that allow one measurement at a time on a device: two that share it are both wrong."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from device_runner.building.cache import cache_folder
from device_runner.building.private import REMEDY, make_private
from device_runner.devices.job import Progress
from device_runner.errors import RunnerError

try:
    import fcntl
except ImportError:  # Windows: left to its user
    fcntl = None

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

    with hold(cache_folder(None) / FILE, WAIT_S, busy, waiting):
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
    if fcntl is None:
        yield
        return
    until = time.monotonic() + wait_s
    while True:
        with _opened(path) as file:
            if not _locked(file):
                file.seek(0)
                told = file.read(20).strip()
                holder = told if told.isascii() and told.isdigit() else "another one"
            elif not _is_at(path, file):  # removed by a clean-up in between: others would make another file there
                continue
            else:
                file.seek(0)
                file.truncate()
                file.write(f"{os.getpid()}\n")
                file.flush()
                yield
                return
        if time.monotonic() >= until:
            raise RunnerError(busy(holder))
        waiting(holder)
        time.sleep(POLL_S)


def _locked(file: IO[str]) -> bool:
    assert fcntl is not None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _opened(path: Path) -> IO[str]:
    """The lock file, which closing lets go of. Never another file, to which somebody made its name lead."""
    make_private(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise RunnerError(f"{path}: cannot be written: {error.strerror}; {REMEDY}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise RunnerError(f"{path}: is no lock file of this user; remove it, or {REMEDY}")
    return os.fdopen(descriptor, "r+")
