"""What commands say no to before imports that take seconds: names and files that are not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mobilevd.config.data import is_local, local_path
from mobilevd.errors import UserError
from mobilevd.model.model_place import model_folder
from mobilevd.picture_files import open_picture


def check_early(model: Path | None = None, picture: Path | None = None) -> None:
    """Raise UserError for a model folder or a picture that is none."""
    if picture is not None:
        open_picture(picture)
    if model is not None:
        model_folder(model)


def check_run_early(run: Path) -> None:
    """Raise UserError for a folder that is not a run's."""
    if not (run / "config.json").is_file():
        raise UserError(f"{run / 'config.json'}: not there; give the folder of a run (`mobilevd run` makes one)")


def check_videos_early(places: Iterable[Path | None], protocols: Iterable[str], features: str) -> None:
    """Raise UserError for videos that are not there, protocols that are none, and a network's file that is not there.

    Args:
        places: folders, manifests or shards; addresses and patterns are looked at later.
        protocols: names, or YAML files.
        features: as `--features` has it.
    """
    for place in places:
        if place is not None and is_local(str(place)) and "{" not in str(place) and not local_path(str(place)).exists():
            raise UserError(
                f"{place} does not exist: a folder of videos, a .csv or .jsonl manifest, or .tar shards were expected"
            )
    if names := list(protocols):
        from eval.protocol_settings import load_protocol

        for name in names:
            load_protocol(name)
        return
    _, _, file = features.partition(":")
    if file and not Path(file).expanduser().exists():
        raise UserError(f"--features {features}: {file} does not exist")
