"""Atomic writing: every file and folder is written beside its place and renamed into it, never seen half done."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.places import Foreign, check_replaceable, kind_of, mode_of, real_place
from mobilevd.temporary import (
    OLD,
    fresh_name,
    held,
    leftovers,
    remove_leftovers,
    temporary_file,
    temporary_folder,
)


@contextmanager
def disk_full_is_a_user_error(path: Path) -> Iterator[None]:
    """Turn "no space left on device" from anywhere inside into one clear line that names `path`.

    Libraries that write for us (safetensors, PyAV, ExecuTorch) wrap the operating system's error in exceptions of their
    own, so the text is searched where the error number is lost.
    """
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error) or "(os error 28)" in str(error):
            raise UserError(
                f"{path}: the disk is full; nothing was left half-written. Free some space and give the same command again"
            ) from error
        raise


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk, so that a crash after the rename cannot lose its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary file to write; on success it becomes `path`, on failure it is removed.

    The temporary name keeps the suffix, for writers that choose the format by it. A symbolic link stays, and what it
    points to is written. A file that was there keeps its permissions; a new one has those that the umask gives.

    Raises UserError for a full disk, a place that cannot be written, something there that is no file.
    """
    shown, path = Path(path), real_place(path)
    with disk_full_is_a_user_error(shown), ExitStack() as stack:
        with _place_errors(shown):
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = mode_of(path)
            if mode is not None and not stat.S_ISREG(mode):
                raise UserError(f"{shown}: is {kind_of(mode)}; give the name of a file")
            temporary = stack.enter_context(temporary_file(path))
        yield temporary
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        elif not stat.S_IMODE(temporary.stat().st_mode) & 0o077:  # safetensors makes files for their owner alone
            temporary.chmod(default_mode(path.parent))
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: Path | str, foreign: Foreign) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it takes the place of `path`, on failure it is removed.

    A folder cannot replace a full one in one step: an old `path` is renamed aside first and deleted afterwards. A kill
    between the two renames leaves the old folder beside, and `recover_folder` puts it back. A symbolic link stays, and
    the folder that it points to is replaced.

    Args:
        foreign: finds a file in an old `path` that whoever writes there does not write (`only`); None if there is none.

    Raises UserError for a full disk, a place that cannot be written, a `path` with something foreign in it.
    """
    shown, path = Path(path), real_place(path)
    with disk_full_is_a_user_error(shown), ExitStack() as stack:
        with _place_errors(shown):
            path.parent.mkdir(parents=True, exist_ok=True)
            recover_folder(path)
            check_replaceable(shown, path, foreign)
            temporary = stack.enter_context(temporary_folder(path))
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file() and not file.is_symlink():  # safetensors writes files that only their owner can read
                file.chmod(file.stat().st_mode | (temporary.stat().st_mode & 0o044))
            _sync(file)
        check_replaceable(shown, path, foreign)  # what was put there meanwhile stays, too
        mode = mode_of(path)
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        old = _take_place(temporary, path)
        _sync(path.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _take_place(temporary: Path, path: Path) -> Path | None:
    """Rename `temporary` to `path`, an old folder out of the way first; return where that lies now."""
    old = None
    while True:
        try:
            os.rename(temporary, path)  # onto nothing, or onto an empty folder
            return old
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if old is not None:  # another process put its own there in between
            shutil.rmtree(old, ignore_errors=True)
        old = fresh_name(path, OLD)
        with held(path), suppress(FileNotFoundError):
            os.rename(path, old)
            try:
                os.rename(temporary, path)
                return old
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    os.rename(old, path)
                    raise


def recover_folder(path: Path | str) -> None:
    """Repair what a kill inside `atomic_folder` left: put the old folder back, or delete it if the new one is there."""
    path = real_place(path)
    for old in leftovers(path, OLD):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, path)
    remove_leftovers(path)


def remove_own_folder(path: Path, *patterns: str) -> None:
    """Remove files of a folder that fit a pattern, and the folder itself if nothing else is in it."""
    if not path.is_dir():
        return
    for file in path.iterdir():
        if file.is_file() and any(file.match(pattern) for pattern in patterns):
            file.unlink()
    with suppress(OSError):  # not empty: something foreign is in it
        path.rmdir()


def default_mode(folder: Path) -> int:
    """Permissions of a new file under the umask of this process, told by the system itself."""
    probe = fresh_name(folder / "umask")
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()


@contextmanager
def _place_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to make or open a place into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another place") from None


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`: afterwards the file has either its old content or all of the new."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text as `atomic_write_bytes` does."""
    atomic_write_bytes(path, text.encode())


def atomic_write_json(path: Path | str, value: Any) -> None:
    """Write indented JSON as `atomic_write_text` does; NaN and infinity are refused, as other readers of JSON do."""
    atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
