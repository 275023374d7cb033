"""SHA-256 of files, computed again only where the file system cannot show that a file is unchanged."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from device_runner.bundle.manifest import FileEntry

SETTLED_NS = 2_000_000_000
"""Age from which a time stamp is settled. Two changes within one clock tick of a file system leave the same stamp
(10 ms on ext4, 2 s on FAT), so a stamp that is younger when noted may hide a later change."""


@dataclass(frozen=True)
class Stamp:
    """The file system's record of a file; it changes with every write and when a file is renamed into its place."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @property
    def settled(self) -> bool:
        """True if the stamp is old enough, when noted, for an equal stamp later to mean equal content."""
        return max(self.modified_ns, self.changed_ns) + SETTLED_NS < time.time_ns()


@dataclass(frozen=True)
class CheckedFile(FileEntry):
    """The manifest's entry of a file, and the file's stamp when its content was found to match."""

    stamp: Stamp | None = field(default=None, compare=False)
    """None if the stamp was too young to prove that the content is unchanged."""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file, following links; raises `OSError` if there is none."""
    told = os.stat(path)
    return Stamp(told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_hashed: dict[tuple[Path, Stamp], str] = {}


def sha256_once(path: Path) -> str:
    """Hex SHA-256 of a file, from memory if this process hashed it before and it has not changed since."""
    stamp = stamp_of(path)
    if (path, stamp) in _hashed:
        return _hashed[path, stamp]
    settled, sha256 = stamp.settled, sha256_of(path)
    if settled and stamp_of(path) == stamp:
        _hashed[path, stamp] = sha256
    return sha256


def changed_since(path: Path, entry: CheckedFile) -> bool:
    """True if a file is gone or no longer has the content that its manifest entry gives."""
    try:
        stamp = stamp_of(path)
        if stamp.size_bytes != entry.size_bytes:
            return True
        return stamp != entry.stamp and sha256_of(path) != entry.sha256
    except OSError:
        return True
