"""The places that a manifest names, checked before any of them is looked at; and that nothing else lies in the bundle."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from device_runner.bundle.manifest import MANIFEST, Manifest
from device_runner.errors import RunnerError

MAX_BYTES = 64 << 30
"""Of all files of a bundle together; a sparse file can claim to be of any size, and is hashed for as long."""
MAX_NAME = 200
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that file managers put into every folder that they show."""


def check_names(folder: Path, manifest: Manifest) -> None:
    """Raise `RunnerError` for a name that leaves the bundle, and for sizes that cannot be; touches no file."""
    for name in manifest.files:
        _check_name(folder, "files", name)
    for key, program in manifest.programs.items():
        _check_name(folder, f"programs.{key}.file", program.file)
        for tensor in (*program.inputs, *program.outputs):
            _check_name(folder, f"programs.{key}, {tensor.name!r}", tensor.file)
    total = sum(entry.size_bytes for entry in manifest.files.values())
    if total > MAX_BYTES:
        raise RunnerError(f"{folder / MANIFEST}: its files have {total} bytes together; up to {MAX_BYTES} are read")


def check_nothing_else(folder: Path, manifest: Manifest) -> None:
    """Raise `RunnerError` for a file that is not listed, and for a link inside a program."""
    programs = [folder / program.file for program in manifest.programs.values()]
    for path in _inside(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() and any(program in path.parents for program in programs):
            raise RunnerError(f"{path}: is a link inside a program, which holds files alone")
        if name != MANIFEST and name not in manifest.files and path.name not in LITTER:
            raise RunnerError(f"{path}: is not listed in {MANIFEST}, so its content cannot be checked; remove it")


def _check_name(folder: Path, key: str, name: str) -> None:
    # A bundle travels between systems, so both kinds of slash count as separators.
    parts = name.replace("\\", "/").split("/")
    if not name.isprintable() or len(name) > MAX_NAME:
        raise RunnerError(f"{folder / MANIFEST}: {key}: {name[:MAX_NAME]!r} is no name of a file in a bundle")
    if not name or os.path.isabs(name) or parts[0].endswith(":") or ".." in parts or parts[0] == "":
        raise RunnerError(f"{folder / MANIFEST}: {key}: {name!r} leaves the bundle; paths must be relative and inside")
    if (plain := PurePosixPath(name).as_posix()) != name:
        raise RunnerError(f"{folder / MANIFEST}: {key}: {name!r} must be written {plain!r}, the one way of naming it")


def _inside(folder: Path) -> list[Path]:
    """Files and links below the folder; links to folders are not followed."""
    found = []
    for place, folders, files in os.walk(folder):
        found += [Path(place) / name for name in files]
        found += [path for name in folders if (path := Path(place) / name).is_symlink()]
    return sorted(found)
