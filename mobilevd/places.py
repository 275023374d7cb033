"""The rule for every place that the program writes to: nothing of the user's is ever replaced.

A folder is replaced if it is empty, or if everything in it is what the same writer writes; a file is replaced if its
content is of the kind that the same writer writes. Everything else is refused, in one line, before any work.
"""

from __future__ import annotations

import fnmatch
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.json_files import load_json

Foreign = Callable[[Path], str | None]
"""Finds a file in a folder that its writer did not write, and returns its path in the folder; None if there is none."""
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that file managers put into every folder that they show."""


def only(*patterns: str) -> Foreign:
    """What a writer of files of these names (patterns of `fnmatch`, paths in the folder) did not write."""

    def foreign(folder: Path) -> str | None:
        return first_unlike(folder, lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))

    return foreign


def only_with_config(ours: Callable[[Path], bool], *patterns: str) -> Foreign:
    """As `only`, for a folder whose `config.json` tells what it is: of another kind, that file itself is foreign."""
    names = only(*patterns)

    def foreign(folder: Path) -> str | None:
        config = folder / "config.json"
        return config.name if config.is_file() and not ours(config) else names(folder)

    return foreign


def first_unlike(folder: Path, known: Callable[[str], bool]) -> str | None:
    """First file or empty folder inside `folder`, as a relative path, whose path is not known."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        inner = path.is_dir() and not path.is_symlink()
        if (inner and any(path.iterdir())) or known(name) or path.name in LITTER:
            continue
        return name
    return None


def real_place(path: Path | str) -> Path:
    """The place that `path` leads to, through symbolic links; UserError if they lead nowhere, or there is no name."""
    if not str(path):
        raise UserError("an empty name; give the name of a place to write to")
    if "\0" in str(path):
        raise UserError(f"{str(path)!r}: no name of a file")
    try:
        place = Path(os.path.realpath(path))
        os.stat(place)
    except FileNotFoundError:
        return place
    except OSError as error:  # links in a circle, a file where a folder should be, no permission
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another place") from None
    return place


def mode_of(path: Path) -> int | None:
    """Type and permissions of what is at `path`; None if there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def kind_of(mode: int) -> str:
    """What is there, in words."""
    return "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "a device or a pipe"


def check_replaceable(shown: Path, place: Path, foreign: Foreign) -> None:
    """Raise UserError unless `place` is free, an empty folder, or one in which nothing is foreign."""
    mode = mode_of(place)
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        raise UserError(f"{shown}: is {kind_of(mode)}; give the name of a folder")
    if (name := foreign(place)) is not None:
        raise UserError(
            f"{shown}: is not replaced, because it holds what was not written here ({name}); give a new or an empty folder"
        )


def check_output_folder(path: Path, foreign: Foreign, inputs: Iterable[Path] = ()) -> None:
    """Raise UserError if a folder must not or cannot be written at `path`.

    Args:
        foreign: see `only`.
        inputs: folders and files that the same command reads; the output must neither be nor hold one of them.
    """
    place = real_place(path)
    for kept, what in ((Path.cwd(), "the current folder"), (Path.home(), "the home folder")):
        if _holds(place, kept):
            raise UserError(f"{path}: is {what}, or holds it; give a new or an empty folder")
    _check_inputs(path, place, inputs)
    check_replaceable(path, place, foreign)
    check_writable(path)


def check_output_file(path: Path, ours: Callable[[Path], bool], what: str, inputs: Iterable[Path] = ()) -> None:
    """Raise UserError if a file must not or cannot be written at `path`.

    Args:
        ours: tells whether the content of a file that is there is of the kind that is written; an empty file always is.
        what: that kind in words.
        inputs: files that the same command reads; the output must not be one of them.
    """
    place = real_place(path)
    mode = mode_of(place)
    if mode is not None and not stat.S_ISREG(mode):
        raise UserError(f"{path}: is {kind_of(mode)}; give the name of a file to write")
    _check_inputs(path, place, inputs)
    if mode is not None and place.stat().st_size and not ours(place):
        raise UserError(f"{path}: is not replaced, because it is not {what}; give another name, or move it away")
    check_writable(path)


def existing_folder(path: Path) -> Path:
    """The nearest thing above `path` that is there: a folder, unless a file is in the way."""
    folder = real_place(path).parent
    while not folder.exists():
        folder = folder.parent
    return folder


def check_writable(path: Path) -> None:
    """Raise UserError if nothing can be written at `path`; what is there, and its folder, stay as they are."""
    place, folder = real_place(path), existing_folder(path)
    if not folder.is_dir():
        raise UserError(f"{path}: cannot be written: {folder} is no folder; name another place")
    try:
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell: read-only disks, the superuser
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror} ({folder}); name another place") from None
    if len(os.fsencode(place.name)) > _LONGEST_NAME:
        raise UserError(f"{path}: cannot be written: the name is too long; name another place")


_LONGEST_NAME = 255 - len(".tmp-0123456789abcdef-")


def is_json_with(*keys: str) -> Callable[[Path], bool]:
    """Recognize a JSON object that has these keys; or, without keys, a list of objects."""

    def ours(file: Path) -> bool:
        content = _read_json(file)
        if keys:
            return isinstance(content, dict) and all(key in content for key in keys)
        return isinstance(content, list) and all(isinstance(entry, dict) for entry in content)

    return ours


def is_json_of_kind(kind: str) -> Callable[[Path], bool]:
    """Recognize a JSON object whose entry `kind` is this one."""

    def ours(file: Path) -> bool:
        content = _read_json(file)
        return isinstance(content, dict) and content.get("kind") == kind

    return ours


def begins_with(start: str | bytes) -> Callable[[Path], bool]:
    """Recognize a file by its first characters or bytes."""
    expected = start.encode() if isinstance(start, str) else start

    def ours(file: Path) -> bool:
        with file.open("rb") as opened:
            return opened.read(len(expected)) == expected

    return ours


def _read_json(file: Path) -> Any:
    try:
        return load_json(file)
    except (OSError, ValueError):
        return None


def _holds(place: Path, other: Path) -> bool:
    other = Path(os.path.realpath(other))
    return other == place or place in other.parents


def _check_inputs(path: Path, place: Path, inputs: Iterable[Path]) -> None:
    for given in inputs:
        if given.exists() and _holds(place, given):
            holds = "is" if Path(os.path.realpath(given)) == place else "holds"
            raise UserError(f"{path}: {holds} {given}, which is read; write to another place")
