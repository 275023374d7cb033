"""Files of the clips of a row that are shown: videos in its folder's `clips/`, called by their kind and number.

Clip i of every row starts from the same first frame and noise, so that rows can be seen side by side.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = "clips"
GENERATED, REAL, PROGRAM = "generated", "real", "program"
"""Kinds: made by the model, cut from a real video, made by the exported program."""


def clip_file(folder: Path, kind: str, number: int) -> Path:
    """The file of a clip of the row in `folder`; numbers begin with 1."""
    return folder / FOLDER / f"{kind}-{number}.mp4"


def shown_files(folder: Path, kind: str) -> list[Path]:
    """The clips of a kind that are there, in order; those after a gap are left out."""
    found: list[Path] = []
    while (file := clip_file(folder, kind, len(found) + 1)).is_file():
        found.append(file)
    return found
