"""Stages of a run made anew (`mobilevd run --from STAGE`): their folders are removed, the last one first.

A note in the run's folder, from then until the run is finished, tells the same command after an interruption that it
goes on: it does not begin once more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.json_files import read_json
from mobilevd.pipeline.rows import Entry
from mobilevd.places import check_replaceable, only
from mobilevd.report.results_file import RESULTS
from mobilevd.temporary import fresh_name

NOTE = "anew.json"
"""File in a run's folder: the stage that a run was made anew from, and whether the old folders are all removed."""

ROW_FILES = only(
    "entry.json",
    "metrics.json",
    "features.npz",
    "samples.mp4",
    "contact_sheet.png",
    "training_log.jsonl",
    "*.safetensors",
    "bench*.json",
    "clips/*",
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


def rows_to_remove(output: Path, entries: Sequence[Entry], from_stage: str | None) -> list[Entry]:
    """The rows whose folders a run removes before it goes on.

    Those from `from_stage` on; none if the same command was interrupted after it had removed them. Without a stage none,
    but for those of a removal that was interrupted.

    Raises UserError for an unknown stage, and if a folder of these holds anything that a run did not write.
    """
    asked = entries_from(entries, from_stage) if from_stage else []
    stage, removed = _noted(output)
    if from_stage is None and stage in [entry.name for entry in entries if entry.stage is not None] and not removed:
        asked = entries_from(entries, stage)
    elif from_stage is not None and (stage, removed) == (from_stage, True):
        asked = []
    for entry in asked:
        check_replaceable(entry.folder, entry.folder, ROW_FILES)
    return [entry for entry in asked if entry.folder.exists()]


def _noted(output: Path) -> tuple[str, bool]:
    """The stage of the note, and whether all its folders are removed; an empty name if there is no note."""
    note = read_json(output / NOTE) if (output / NOTE).is_file() else {}
    return str(note.get("from", "")), note.get("removed") is True


def remove_rows(output: Path, rows: Sequence[Entry], stage: str) -> None:
    """Remove the folders of these rows, each at once, and the results that they are in.

    The last comes first: after a kill what is left is a run whose last stages are missing, and never a stage that was made
    from another one than that before it.

    Args:
        stage: the first that is made anew, for the note.
    """
    atomic_write_json(output / NOTE, {"from": stage, "removed": False})
    (output / RESULTS).unlink(missing_ok=True)  # they would be of files that are not there any more
    for entry in reversed(rows):
        removed = fresh_name(entry.folder)  # what a kill leaves of it the next command removes
        os.replace(entry.folder, removed)
        shutil.rmtree(removed)
    atomic_write_json(output / NOTE, {"from": stage, "removed": True})


def forget_anew(output: Path) -> None:
    """Remove the note: the run is finished, and the same command would make all of it anew once more."""
    (output / NOTE).unlink(missing_ok=True)
