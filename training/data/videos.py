"""A video wherever it lies: a file of its own, or a part of a tar shard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Video:
    """A video of a source.

    Attributes:
        name: its name in the source, with slashes; no two are the same. Splits and seeds go by it.
        path: the local file that holds it.
        offset, size: the bytes of that file that are the video; size None: all of it.
        start_s, end_s: the part that is used, in seconds from its first frame; end None: to its end.
    """

    name: str
    path: Path
    offset: int = 0
    size: int | None = None
    start_s: float = 0.0
    end_s: float | None = None

    def __str__(self) -> str:
        """As messages name it: the file, with the member's name behind it if it is a part of one."""
        return str(self.path) if self.size is None else f"{self.path}:{self.name}"
