"""Atomic writing: every file and folder is written beside its place and renamed into it, never seen half done."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError


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


def temporary_beside(path: Path) -> Path:
    """Return a name in the folder of `path` that no finished file has; readers ignore names that start with `.tmp-`."""
    return path.parent / f".tmp-{os.getpid()}-{path.name}"


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name to write to; on success it becomes `path`, on failure it is removed.

    The temporary name keeps the suffix, for writers that choose the format by it.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    with disk_full_is_a_user_error(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError, FileNotFoundError) as error:
            raise UserError(f"{path}: its folder cannot be made: {error.strerror}; name another place") from None
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it takes the place of `path`, on failure it is removed.

    A folder cannot replace a full one in one step: an old `path` is renamed aside first and deleted afterwards. A kill
    between the two renames leaves the old folder as `.old-NAME`, which `recover_folder` puts back.
    """
    path = Path(path)
    old = path.parent / f".old-{path.name}"
    with disk_full_is_a_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{path.name}-", dir=path.parent))
        temporary.chmod(0o755)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(file.stat().st_mode | 0o044)  # safetensors writes files that only their owner can read
                _sync(file)
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            recover_folder(path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: Path | str) -> None:
    """Repair what a kill inside `atomic_folder` left: restore the old folder, or delete it if the new one is there."""
    path = Path(path)
    old = path.parent / f".old-{path.name}"
    if old.exists():
        if path.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, path)
    for leftover in path.parent.glob(f".tmp-{path.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


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
