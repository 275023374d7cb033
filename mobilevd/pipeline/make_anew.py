"""Stages of a run made anew (`mobilevd run --from STAGE`): their folders are removed, the last one first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from mobilevd.errors import UserError
from mobilevd.pipeline.rows import Entry
from mobilevd.places import check_replaceable, only
from mobilevd.temporary import fresh_name

ROW_FILES = only(
    "entry.json",
    "metrics.json",
    "features.npz",
    "samples.mp4",
    "contact_sheet.png",
    "training_log.jsonl",
    "*.safetensors",
    "bench*.json",
    "clips/*.mp4",
    "model/*",
    "bundle*/*",
    "ladder/*",
    "validation/step-*",
    "checkpoint/*",
)
"""Everything that a run and its commands write into a row's folder."""


def entries_from(entries: Sequence[Entry], stage: str) -> list[Entry]:
    """The entries of a stage and of those after it. UserError, with the known ones, for another name."""
    names = [entry.name for entry in entries if entry.stage is not None]
    if stage not in names:
        raise UserError(f"--from {stage}: there is no such stage; the stages are {', '.join(names)}")
    first = next(i for i, entry in enumerate(entries) if entry.stage is not None and entry.name == stage)
    return list(entries[first:])


def check_removable(entries: Sequence[Entry]) -> None:
    """Raise UserError if a folder of these holds anything that a run did not write."""
    for entry in entries:
        check_replaceable(entry.folder, entry.folder, ROW_FILES)


def remove_rows(entries: Sequence[Entry]) -> None:
    """Remove the folders of these entries, each at once.

    The last comes first: after a kill what is left is a run whose last stages are missing, and never a stage that was made
    from another one than that before it. UserError as `check_removable`, before anything is removed.
    """
    check_removable(entries)
    for entry in reversed(entries):
        if entry.folder.exists():
            removed = fresh_name(entry.folder)  # what a kill leaves of it the next command removes
            os.replace(entry.folder, removed)
            shutil.rmtree(removed)
