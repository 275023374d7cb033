"""Paths that a run noted as they were typed where it was started, found again from wherever one is."""

from __future__ import annotations

from pathlib import Path


def find_near(run_file: Path, folder: Path) -> Path:
    """The absolute path of a folder as it was typed where a run was started: from here, or above a file of the run."""
    for place in (Path.cwd(), *run_file.absolute().parents):
        if (place / folder).is_dir():
            return place / folder
    return folder.absolute()
