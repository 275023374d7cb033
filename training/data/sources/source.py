"""A source of videos by its name: what it is, and the videos in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobilevd.errors import UserError
from training.data.sources.folder import files_and_shards
from training.data.sources.lists import listed
from training.data.sources.manifest import MANIFESTS, read_manifest
from training.data.sources.shard_names import expand_braces, names_below
from training.data.sources.shards import SHARD_SUFFIX, videos_of_shards
from training.data.sources.urls import fetch_shards, is_url
from training.data.videos import SUFFIXES, Video

Progress = Callable[[int, int], None]


def open_source(
    place: str | Path, list_file: Path | None = None, cache: Path | None = None, progress: Progress | None = None
) -> list[Video]:
    """The videos of a source, in an order that is the same everywhere; no two have one name.

    Args:
        place: a folder (of video files, or of .tar shards, or both); a .csv or .jsonl manifest; shards by a name with
            braces, `shards-{000..099}.tar`; the URL of shards.
        list_file: the videos to take of it, as `listed`.
        cache: folder in which shards from a URL are kept; needed for a URL.
        progress: called with (shards fetched, shards) while shards come from a URL.

    Raises UserError for a place that is none of these or holds no video, and for a shard or manifest that is damaged.
    """
    place = str(place).removeprefix("file://")
    videos = _open(place, cache, progress)
    if not videos:
        raise UserError(f"{place}: no video file in it (looked for {', '.join(sorted(SUFFIXES))}, and .tar shards)")
    return listed(videos, list_file, place) if list_file else videos


def _open(place: str, cache: Path | None, progress: Progress | None) -> list[Video]:
    names = expand_braces(place)
    if is_url(place):
        if cache is None:
            raise ValueError("shards from a URL need a folder to be kept in")
        return videos_of_shards(fetch_shards(names, cache, progress))
    if len(names) > 1 or (Path(place).suffix.lower() == SHARD_SUFFIX and not Path(place).is_dir()):
        below = names_below([Path(name).as_posix() for name in names])
        return videos_of_shards(list(zip(below, map(Path, names), strict=True)))
    path = Path(place)
    if path.suffix.lower() in MANIFESTS and not path.is_dir():
        return read_manifest(path)
    files, shards = files_and_shards(path)
    return files + videos_of_shards(shards)
