"""A video wherever it lies: a file of its own, or a part of a tar shard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv "
    ".y4m".split()
)
"""Suffixes of files that are taken for videos, lower case."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video of a source.

    Attributes:
        name: its name in the source, with slashes; no two are the same. Seeds go by it.
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

    @property
    def whole_name(self) -> str:
        """Name without the seconds of a part (`part_name`): parts of one video are on one side of a split."""
        is_part = self.start_s > 0 or self.end_s is not None
        return self.name.rpartition("#")[0] or self.name if is_part else self.name

    def __str__(self) -> str:
        """As messages name it: the file, with the member's name behind it if it is a part of one."""
        if self.size is None:
            return str(self.path)
        return f"{self.path}:{self.name.partition(f'{self.path.name}/')[2] or self.name}"


def part_name(name: str, start_s: float, end_s: float | None) -> str:
    """Name of the part of a video from `start_s` to `end_s` seconds; of all of it, the name itself."""
    if start_s <= 0 and end_s is None:
        return name
    return f"{name}#{start_s:g}-{'' if end_s is None else f'{end_s:g}'}"


def as_video(source: Video | Path | str) -> Video:
    """A file by its path as a video."""
    return source if isinstance(source, Video) else Video(Path(source).name, Path(source))
