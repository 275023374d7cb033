"""The cache of built runners: one folder per runner, named by a hash of everything that decides the build."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from device_runner.building.private import REMEDY, check_private, make_private
from device_runner.bundle.hashes import sha256_of
from device_runner.errors import RunnerError
from device_runner.json_files import parse_json, read_bytes

try:
    import fcntl
except ImportError:  # Windows: there what is being filled cannot be told from what a killed build left
    fcntl = None

RECORD = "build.json"
"""Name of the file beside every built runner that records what it was built from, and the SHA-256 of what came out."""
FORMAT = 2
"""Raised when records of the same build hold other entries."""


def default_cache_dir() -> Path:
    """The default cache folder: `$MOBILEVD_CACHE`, else `~/.cache/mobilevd`."""
    return Path(os.environ.get("MOBILEVD_CACHE") or Path.home() / ".cache" / "mobilevd").absolute()


def cache_folder(cache_dir: Path | str | None) -> Path:
    """The given cache folder, absolute; the default one for None.

    Raises `RunnerError` if it is there and others could put programs into it.
    """
    folder = Path(cache_dir).absolute() if cache_dir is not None else default_cache_dir()
    if folder.is_dir():
        check_private(folder)
    return folder


def key_of(record: dict[str, Any]) -> str:
    """The hash of a record, short enough for a folder's name."""
    return hashlib.sha256(json.dumps([FORMAT, record], sort_keys=True).encode()).hexdigest()[:16]


def make_folder(folder: Path, record: dict[str, Any], fill: Callable[[Path], None]) -> Path:
    """Return the folder; unless it exists, fill it by `fill(temporary folder)` and write `record` as its `build.json`.

    The folder is made under another name and renamed, so that neither a killed build nor two builds at once leave a
    half-written one. Raises `RunnerError` if it cannot be written, or is there and not what was built.
    """
    if (folder / RECORD).is_file():
        check_intact(folder)
        return folder
    cache = make_private(folder.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=cache))
    except OSError as error:
        raise RunnerError(f"{cache}: cannot hold the built runner: {error.strerror}; {REMEDY}") from None
    try:
        with _held(temporary):
            fill(temporary)
            files = {path.relative_to(temporary).as_posix(): _sha256(path) for path in paths_in(temporary)}
            (temporary / RECORD).write_text(json.dumps({**record, "sha256": files}, indent=2) + "\n")
            try:
                os.rename(temporary, folder)
            except OSError:
                if not (folder / RECORD).is_file():  # otherwise another process built the same first
                    raise
    except OSError as error:
        raise RunnerError(f"{folder}: the built runner cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_intact(folder: Path) -> None:
    """Raise `RunnerError` unless a folder of the cache holds what was built, and nothing else."""
    recorded = read_record(folder).get("sha256")
    found = {path.relative_to(folder).as_posix(): path for path in paths_in(folder) if path.name != RECORD}
    if not isinstance(recorded, dict) or recorded.keys() != found.keys():
        raise RunnerError(f"{folder}: does not hold what was built; delete it, and it is built anew")
    for name, path in found.items():
        if _sha256(path) != recorded[name]:
            raise RunnerError(f"{path}: is not the file that was built; delete {folder}, and it is built anew")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder that is being filled; the system lets go of it if this process dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_being_filled(folder: Path) -> bool:
    """True for a temporary folder that a build is writing; also where that cannot be told."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except FileNotFoundError:
        return False  # finished meanwhile
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def paths_in(folder: Path) -> list[Path]:
    """All files and links inside a folder, at any depth; links are not followed."""
    return [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]


def _sha256(path: Path) -> str:
    """Of a file's content, or of where a link leads."""
    return hashlib.sha256(os.readlink(path).encode()).hexdigest() if path.is_symlink() else sha256_of(path)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of what the runner in a folder was built from; empty if there is none."""
    try:
        record = parse_json(read_bytes(folder / RECORD))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
