"""The contents of the cache, and their removal: what was built, downloaded and noted there, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from device_runner.building.cache import RECORD, cache_folder, is_being_filled, paths_in, read_record
from device_runner.building.wheel import WHEELS
from device_runner.devices.adb.lock import PHONES
from device_runner.devices.lock import FILE, hold
from device_runner.errors import RunnerError

BUILT = r"(?:runner|executorch|wheel)(?:-[A-Za-z0-9_-]+)?-[0-9a-f]{16}"
"""Names of folders that `make_folder` makes: what, perhaps for which processor, and the hash of what it was made of."""
UNFINISHED = rf"\.tmp-{BUILT}-\w{{8}}"
NOT_OURS = "was not written by MobileVD"


@dataclass(frozen=True)
class CacheEntry:
    """A file or folder in the cache."""

    path: Path
    what: str
    """What it is, in words for the user."""
    size_bytes: int
    kept_because: str | None = None
    """Reason why a clean-up leaves it; None for what it removes."""


def cache_entries(cache_dir: Path | str | None = None) -> list[CacheEntry]:
    """What lies in the cache, by name; empty if there is no cache. `RunnerError` if others could write into it."""
    cache = cache_folder(cache_dir)
    return [_entry(path, cache) for path in sorted(_paths(cache))]


def clean_cache(cache_dir: Path | str | None = None) -> list[CacheEntry]:
    """Remove from the cache all that was written there, and return what was there; folders left empty go too.

    Raises `RunnerError`: others could write into the cache, a measurement or a build is using it, or something cannot be
    removed.
    """
    cache = cache_folder(cache_dir)
    if not cache.is_dir():
        return []
    entries = cache_entries(cache)
    with ExitStack() as locks:
        ours = [entry.path for entry in entries if entry.kept_because is None]
        for lock in {cache / FILE, *(path for path in ours if path.suffix == ".lock")}:
            locks.enter_context(hold(lock, 0, _measuring))
        # a build goes on in a folder of its own, but reads others, and writes logs beside them
        for path in cache.iterdir():
            if re.fullmatch(UNFINISHED, path.name) and is_being_filled(path):
                raise RunnerError(f"{path}: is being built by another process; clean the cache when that is done")
        for path in [*ours, cache / FILE]:
            _remove(path)
    for folder in (cache / WHEELS, cache / PHONES, cache):
        if folder.is_dir() and not folder.is_symlink():
            with suppress(OSError):  # not empty
                folder.rmdir()
    return entries


def _measuring(holder: str) -> str:
    return f"process {holder} is measuring with programs of the cache; clean it when that is done"


def _paths(cache: Path) -> Iterator[Path]:
    """Everything directly in the cache; in place of its two folders of single files, those files."""
    if not cache.is_dir():
        return
    for path in cache.iterdir():
        if path.name in (WHEELS, PHONES) and path.is_dir() and not path.is_symlink():
            yield from path.iterdir()
        else:
            yield path


def _entry(path: Path, cache: Path) -> CacheEntry:
    status = path.lstat()
    size = status.st_size
    if stat.S_ISDIR(status.st_mode):
        size = sum(file.lstat().st_size for file in paths_in(path))
    what = _what(path, status.st_mode, path.relative_to(cache).as_posix())
    if what is None:
        return CacheEntry(path, "something else", size, NOT_OURS)
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return CacheEntry(path, what, size, "belongs to another user")
    return CacheEntry(path, what, size, _reason_to_keep(path))


def _what(path: Path, mode: int, name: str) -> str | None:
    """What is written under a name of the cache; None if nothing is, or it is written as another kind of file."""
    if stat.S_ISDIR(mode):
        if re.fullmatch(BUILT, name):
            return _what_was_built(path) if (path / RECORD).is_file() else None
        return "build that was not finished" if re.fullmatch(rf"{UNFINISHED}|build-{BUILT}", name) else None
    if not stat.S_ISREG(mode):
        return None
    files = {
        rf"{BUILT}\.log|download\.log": "log of a step that failed",
        rf"{WHEELS}/executorch-[^/]+\.whl": "wheel that was downloaded",
        rf"{re.escape(FILE)}|{PHONES}/[^/]+\.lock": "lock of a measurement",
        rf"{PHONES}/[^/]+\.collected": "note of a run that was left on a phone",
    }
    return next((what for pattern, what in files.items() if re.fullmatch(pattern, name)), None)


def _what_was_built(folder: Path) -> str:
    record, kind = read_record(folder), folder.name.partition("-")[0]
    version, abi = record.get("executorch"), record.get("abi")
    if kind == "wheel":
        return f"unpacked {record.get('wheel', 'wheel')}"
    what = "program that measures" if kind == "runner" else "ExecuTorch"
    return f"{what} on {abi or 'this host'}" + (f", with ExecuTorch {version}" if version and kind == "runner" else "")


def _reason_to_keep(path: Path) -> str | None:
    if path.suffix == ".collected":  # without it, the next measurement would take those results for its own
        return "the next measurement on that phone needs it; `mobilevd devices --clean SERIAL` removes both"
    if re.fullmatch(BUILT, path.name) and path.is_dir():
        written = read_record(path).get("sha256")
        names = {file.relative_to(path).as_posix() for file in paths_in(path)} - {RECORD}
        foreign = sorted(names - set(written if isinstance(written, dict) else ()))
        return f"holds {foreign[0]}, which {NOT_OURS}" if foreign else None
    return None


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise RunnerError(
            f"{error.filename or path}: cannot be removed: {error.strerror}; remove {path} by hand"
        ) from None
