"""What files hold, by SHA-256, hashed again only where the file system does not vouch that nothing changed."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from device_runner.bundle.manifest import FileEntry

SETTLED_NS = 2_000_000_000
"""Two changes within a file system's clock tick leave one time stamp (10 ms on ext4, 2 s on FAT): a stamp younger than
this when it was noted may hide a later change."""


@dataclass(frozen=True)
class Stamp:
    """What the file system says of a file; it moves with every write and with every file renamed into its place."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @property
    def settled(self) -> bool:
        """An equal stamp later on means equal content, if this holds when the stamp is noted."""
        return max(self.modified_ns, self.changed_ns) + SETTLED_NS < time.time_ns()


@dataclass(frozen=True)
class CheckedFile(FileEntry):
    """What the manifest says of a file's content, and the stamp that the file had when this was found to be so."""

    stamp: Stamp | None = field(default=None, compare=False)
    """None: it was too young to vouch for the content."""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file, links followed; `OSError` if there is none."""
    told = os.stat(path)
    return Stamp(told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_hashed: dict[tuple[Path, Stamp], str] = {}


def sha256_once(path: Path) -> str:
    """Hex SHA-256 of a file, from memory if this process hashed it before and it did not change since."""
    stamp = stamp_of(path)
    if (path, stamp) in _hashed:
        return _hashed[path, stamp]
    settled, sha256 = stamp.settled, sha256_of(path)
    if settled and stamp_of(path) == stamp:
        _hashed[path, stamp] = sha256
    return sha256


def changed_since(path: Path, entry: CheckedFile) -> bool:
    """A file does not hold (any more) what the manifest says of it, or is gone."""
    try:
        stamp = stamp_of(path)
        if stamp.size_bytes != entry.size_bytes:
            return True
        return stamp != entry.stamp and sha256_of(path) != entry.sha256
    except OSError:
        return True
