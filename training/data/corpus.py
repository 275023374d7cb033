"""A corpus of procedural scenes as real video files, so that a run without data reads video like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.json_files import load_json
from mobilevd.temporary import is_temporary, remove_leftovers_in
from training.data.scenes import render_scene
from training.data.video import write_video

SETTINGS_NAME = "corpus.json"
SEEDS_APART = 1_000_000  # two corpora with different seeds share no scene


def write_corpus(
    folder: Path | str,
    count: int,
    seed: int,
    seconds: float = 3.0,
    fps: float = 24,
    height: int = 64,
    width: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `count` scenes to `folder` as scene-00000.mp4 and so on, with the settings in corpus.json.

    Every file appears whole or not at all, and existing files are kept: after a kill, or with a larger count, the same
    call continues. `progress(done, count)` is called after each file.

    Raises UserError if the folder holds something else, or a corpus with other settings.
    """
    folder = Path(folder)
    settings = {
        "seed": seed,
        "seconds": float(seconds),
        "fps": float(fps),
        "height": height,
        "width": width,
        "count": count,
    }
    _check(folder, settings)
    atomic_write_json(folder / SETTINGS_NAME, settings)
    remove_leftovers_in(folder)
    for number in range(count):
        path = folder / f"scene-{number:05d}.mp4"
        if not path.exists():
            scene = render_scene(seed * SEEDS_APART + number, round(seconds * fps), height, width, fps)
            write_video(path, scene, fps)
        if progress is not None:
            progress(number + 1, count)
    return folder


def _check(folder: Path, settings: dict[str, Any]) -> None:
    """Raise UserError unless `folder` is new, empty, or a corpus of these settings with at most this count."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: a folder for the corpus was expected")
    if not folder.exists() or not any(not is_temporary(path.name) for path in folder.iterdir()):
        return
    remedy = "choose another folder, or delete this one"
    try:
        there = load_json(folder / SETTINGS_NAME)
        differing = [key for key in settings if key != "count" and there[key] != settings[key]]
        if there["count"] > settings["count"]:
            differing.append("count")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not empty, and no corpus of scenes ({SETTINGS_NAME}); {remedy}") from error
    if differing:
        changes = ", ".join(f"{key} {there[key]} there, {settings[key]} asked" for key in differing)
        raise UserError(f"{folder / SETTINGS_NAME}: a corpus with other settings ({changes}); {remedy}")
