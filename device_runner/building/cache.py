"""The cache of built runners: one folder per runner, named by a hash of everything that decides the build."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_runner.errors import RunnerError

RECORD = "build.json"
"""Name of the file beside every built runner that records what it was built from."""


def default_cache_dir() -> Path:
    """The default cache folder: `$MOBILEVD_CACHE`, else `~/.cache/mobilevd`."""
    return Path(os.environ.get("MOBILEVD_CACHE") or Path.home() / ".cache" / "mobilevd").absolute()


def cache_folder(cache_dir: Path | str | None) -> Path:
    """The given cache folder, absolute; the default one for None."""
    return Path(cache_dir).absolute() if cache_dir is not None else default_cache_dir()


def key_of(record: dict[str, Any]) -> str:
    """The hash of a record, short enough for a folder's name."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def make_folder(folder: Path, record: dict[str, Any], fill: Callable[[Path], None]) -> Path:
    """Return the folder; unless it exists, fill it by `fill(temporary folder)` and write `record` as its `build.json`.

    The folder is made under another name and renamed, so that neither a killed build nor two builds at once leave a
    half-written one. Raises `RunnerError` if it cannot be written.
    """
    if (folder / RECORD).is_file():
        return folder
    cache = folder.parent
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=cache))
    except OSError as error:
        raise RunnerError(
            f"{cache}: cannot hold the built runner: {error.strerror}; set MOBILEVD_CACHE to another folder"
        ) from None
    try:
        fill(temporary)
        (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        temporary.chmod(0o755)
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


def read_record(folder: Path) -> dict[str, Any]:
    """The record of what the runner in a folder was built from; empty if there is none."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
