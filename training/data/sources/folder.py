"""The videos of a folder: files and tar shards, at any depth, through links."""

from __future__ import annotations

from pathlib import Path

from mobilevd.errors import UserError
from mobilevd.folder_files import files_below
from training.data.sources.shards import SHARD_SUFFIX
from training.data.videos import SUFFIXES, Video


def files_and_shards(folder: Path) -> tuple[list[Video], list[tuple[str, Path]]]:
    """Files below `folder` with a video's suffix, as `files_below` finds them, and shards with their names there.

    Raises UserError if `folder` is no folder.
    """
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise UserError(
            f"{folder} {state}: a folder of videos, a .csv or .jsonl manifest, or .tar shards were expected"
        )
    found = [(path.relative_to(folder).as_posix(), path) for path in files_below(folder, {*SUFFIXES, SHARD_SUFFIX})]
    shards = [(name, path) for name, path in found if path.suffix.lower() == SHARD_SUFFIX]
    return [Video(name, path) for name, path in found if path.suffix.lower() != SHARD_SUFFIX], shards
