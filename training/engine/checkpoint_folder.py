"""The checkpoints of a stage on disk: one folder a step, the last few and the best; whole or not there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from mobilevd.errors import UserError
from mobilevd.temporary import remove_leftovers_in

PROGRESS = "progress.json"
STEP = re.compile(r"step-(\d{8})")
SHARDS = "shard-*.safetensors"


def step_folder(folder: Path, step: int) -> Path:
    """The folder of the checkpoint after `step`."""
    return folder / f"step-{step:08d}"


def steps_in(folder: Path) -> list[int]:
    """Steps whose checkpoints are whole, rising."""
    if not folder.is_dir():
        return []
    found = ((STEP.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(int(match[1]) for match, path in found if match and (path / PROGRESS).is_file())


def clean(folder: Path) -> None:
    """Remove what killed processes left. UserError for a checkpoint of an earlier version."""
    if (folder / PROGRESS).is_file():
        raise UserError(
            f"{folder}: a checkpoint of an earlier version, which this one cannot continue; delete the folder to train "
            "this stage anew"
        )
    if folder.is_dir():
        remove_leftovers_in(folder)


def rotate(folder: Path, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the last `keep` and that of step `best`."""
    for step in steps_in(folder)[:-keep]:
        if step != best:
            _remove(step_folder(folder, step))


def remove_all(folder: Path) -> None:
    """Remove the checkpoints of a stage, and the folder itself if nothing else is in it."""
    if not folder.is_dir():
        return
    for step in steps_in(folder):
        _remove(step_folder(folder, step))
    remove_leftovers_in(folder)
    if not any(folder.iterdir()):
        folder.rmdir()


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint's own files, its progress first: what is half removed is none."""
    (checkpoint / PROGRESS).unlink()
    for shard in checkpoint.glob(SHARDS):
        shard.unlink()
    if not any(checkpoint.iterdir()):
        shutil.rmtree(checkpoint)


def read_progress(checkpoint: Path) -> dict:
    """The progress that a checkpoint records. UserError if it cannot be read."""
    try:
        told = json.loads((checkpoint / PROGRESS).read_text())
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict):
        raise UserError(f"{checkpoint / PROGRESS}: not the progress of a training; delete {checkpoint}")
    return told
