"""`mobilevd init`: configurations to start from, in a folder of the user's: two tiny ones, and one for an own model."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from rich.console import Console

from mobilevd.commands.init_own import own_config
from mobilevd.config.load import load_config
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_text
from mobilevd.places import check_writable
from mobilevd.shipped import SHIPPED
from mobilevd.terminal import TerminalConsole

COPIED = ("tiny.yaml", "smoke.yaml")
OWN = "mobilevd.yaml"


def init_command(
    folder: Path, model: Path | None = None, videos: str | None = None, console: Console | None = None
) -> None:
    """Write the configurations into a folder, and tell what to do with them; imports no torch.

    Args:
        folder: new or there; only files of names that are free in it are written.
        model: the user's SVD checkpoint, to fill in.
        videos: the user's videos, to fill in: a folder, a manifest, or shards.

    Raises UserError for a file that is there already, a model or videos that are not, and a folder that cannot be written.
    """
    files = {name: (SHIPPED / "configs" / name).read_text(encoding="utf-8") for name in COPIED}
    model, videos = _checked_model(model), _checked_videos(videos)
    codec = _codec_of(model)
    files[OWN] = own_config(folder / OWN, model, codec, videos)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the name of a folder")
    there = [name for name in files if os.path.lexists(folder / name)]  # a link that leads nowhere, too
    if there:
        raise UserError(f"{folder / there[0]}: is there already and is not replaced; give another folder")
    check_writable(folder / OWN)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        atomic_write_text(folder / name, text)
        load_config(folder / name)  # what a run reads first
    console = console or TerminalConsole()

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    line(f"{folder / 'tiny.yaml'}: the whole method at a tiny scale, with what comes with the package")
    line(f"{folder / 'smoke.yaml'}: the same stages in two minutes, to see that they work here")
    needed = {"base.model": model, "base.codec": codec, "data.videos": videos, "evaluation.features": None}
    missing = ", ".join(key for key, given in needed.items() if given is None)
    line(f"{folder / OWN}: the paper's recipe for your model, with the meaning of every key; fill in {missing}")
    line(f"next: {shlex.join(['mobilevd', 'run', str(folder / 'tiny.yaml')])}")


def _checked_model(model: Path | None) -> Path | None:
    if model is not None:
        from mobilevd.model.model_place import model_folder

        config = model_folder(model) / "config.json"
        if not config.is_file():
            raise UserError(
                f"{model}: holds no config.json of a UNet; give an SVD checkpoint in the layout of diffusers"
            )
        return model.absolute()
    return None


def _codec_of(model: Path | None) -> Path | None:
    """The folder that holds the codec beside a checkpoint's UNet; None if there is none."""
    places = [] if model is None else [model, model.parent]
    return next((place for place in places if (place / "vae").is_dir()), None)


def _checked_videos(videos: str | None) -> str | None:
    if videos is None or "://" in videos or "{" in videos:
        return videos
    place = Path(videos).expanduser()
    if not place.exists():
        raise UserError(f"{videos}: no such folder or file; give a folder of videos, a manifest, or shards")
    return str(place.absolute())
