"""The rule for a clip that is written by name: another's video is not replaced."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
from av.error import FFmpegError

from mobilevd.errors import UserError
from mobilevd.places import check_output_file
from training.data.video_stream import OPEN_OPTIONS

MARK = "made by MobileVD"
"""The comment that every clip written here carries."""
SUFFIXES = (".mp4", ".mkv", ".mov", ".m4v", ".avi", ".ts")
"""Containers for H.264."""


def check_video_place(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise UserError if no clip can be written at `path`, or if something else than such a clip is there."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: no name of a video; give one that ends in {', '.join(SUFFIXES)}")
    check_output_file(path, _is_written_here, "a clip that was written here", inputs)


def _is_written_here(file: Path) -> bool:
    try:
        with av.open(f"file:{file.absolute()}", options=OPEN_OPTIONS) as container:
            return any(key.lower() == "comment" and value == MARK for key, value in container.metadata.items())
    except (FFmpegError, OSError):
        return False
