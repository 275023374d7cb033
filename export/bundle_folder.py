"""The folder of a bundle as a place to write to: an earlier bundle may be replaced, nothing else."""

from __future__ import annotations

from pathlib import Path

from device_runner.bundle.read import listed_files
from mobilevd.places import first_unlike


def foreign_to_bundle(folder: Path) -> str | None:
    """First file in `folder` that no bundle put there, by the list in its manifest; None in a bundle, or if empty."""
    return first_unlike(folder, listed_files(folder).__contains__)
