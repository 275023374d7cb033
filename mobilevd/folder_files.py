"""The files below a folder, as people arrange them: through links, each once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from pathlib import Path


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files below `folder` with one of the suffixes (lower case, with the dot), sorted by their path in it.

    Hidden files and folders are left out. Links are followed; a file or folder that two names lead to is taken once, by
    the name that is no link if there is one, so a folder that links to its parent ends. What cannot be listed is left
    out: a link that leads nowhere, a folder without permission.
    """
    found: dict[tuple[int, int], Path] = {}
    seen: set[tuple[int, int]] = set()
    waiting, links = deque([folder]), deque[Path]()
    linked_files: list[Path] = []
    while waiting or links:
        current = waiting.popleft() if waiting else links.popleft()  # links last
        if not _new(current, seen):
            continue
        for entry in _entries(current):
            path = current / entry.name
            if entry.name.startswith(".") or not _leads_somewhere(entry):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else waiting).append(path)
            elif path.suffix.lower() in suffixes and entry.is_file():
                if entry.is_symlink():
                    linked_files.append(path)
                else:
                    found.setdefault(_identity(entry.stat()), path)
    for path in linked_files:
        found.setdefault(_identity(path.stat()), path)
    return sorted(found.values(), key=lambda path: path.relative_to(folder).as_posix())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _leads_somewhere(entry: os.DirEntry[str]) -> bool:
    try:
        entry.stat()
    except OSError:  # links to nothing, or in a circle
        return False
    return True


def _new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    try:
        identity = _identity(folder.stat())
    except OSError:
        return False
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
