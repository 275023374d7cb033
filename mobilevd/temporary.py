"""Temporary files and folders beside what they become.

Each has a name that no other has, and its process holds a lock on it while it is being written. So two processes never
touch each other's, and what a killed process left is told from what is still being written: nobody holds it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there a leftover cannot be told from what is being written, and stays
    fcntl = None  # type: ignore[assignment]

NEW, OLD = "tmp", "old"
"""Kinds of temporaries: what will take a place, and what was moved out of it."""
_PREFIX = r"\.(?:tmp|old)-[0-9a-f]{16}-"


def is_temporary(name: str) -> bool:
    """True for a name that only temporaries have; readers of a folder skip them."""
    return name.startswith(".tmp-") or re.match(_PREFIX, name) is not None


def fresh_name(path: Path, kind: str = NEW) -> Path:
    """A name beside `path`, which no file has; it ends in the name of `path`, for writers that choose a format by it."""
    return path.parent / f".{kind}-{secrets.token_hex(8)}-{path.name}"


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`, held by this process; it is removed if it is still there at the end."""
    temporary = fresh_name(path)
    # exclusively, and not through a link that someone placed there; the umask decides who may read it
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        _hold(descriptor)
        yield temporary
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder beside `path`, held by this process; it is removed if it is still there at the end."""
    while True:
        temporary = fresh_name(path)
        temporary.mkdir()
        with held(temporary):
            if not temporary.exists():  # another process took it for a leftover, in the moment before it was held
                continue
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, so that it is no leftover whatever its name."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        _hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def leftovers(path: Path, kind: str = NEW) -> Iterator[Path]:
    """Temporaries of `path` alone that no process holds, the newest first.

    Only those of this user: another's are not ours to judge.
    """
    pattern = re.compile(rf"\.{kind}-[0-9a-f]{{16}}-{re.escape(path.name)}")
    yield from _dead(path.parent, pattern)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of `path` while they wrote it."""
    for leftover in leftovers(path):
        _remove(leftover)


def remove_leftovers_in(folder: Path) -> None:
    """Remove all that killed processes left in a folder while they wrote into it."""
    for leftover in _dead(folder, re.compile(r"\.tmp-[0-9a-f]{16}-.+")):
        _remove(leftover)


def _dead(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    try:
        found = [folder / entry.name for entry in os.scandir(folder) if pattern.fullmatch(entry.name)]
        found.sort(key=lambda path: path.lstat().st_mtime, reverse=True)
    except FileNotFoundError:
        return
    for path in found:
        if _is_dead(path):
            yield path


def _is_dead(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        status = path.lstat()
        if status.st_uid != os.getuid() or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:  # held; or a file system without locks, where nothing can be told
        return False
    finally:
        os.close(descriptor)


def _hold(descriptor: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
