"""Tar shards of videos, as webdataset and others write them; videos are read in place, nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

from mobilevd.errors import UserError
from mobilevd.plain_text import one_line
from training.data.sources.missing import first_few
from training.data.videos import SUFFIXES, Video

SHARD_SUFFIX = ".tar"


def videos_of_shards(shards: Sequence[tuple[str, Path]]) -> list[Video]:
    """The members of shards (name, file) with a video's suffix, as shard/member.

    Raises UserError for shards that are missing, no tar files, or cut off: all of them at once, with what was found.
    """
    videos: list[Video] = []
    missing = [path for _, path in shards if not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(shards)} shards are missing: {first_few(missing)}")
    damaged: list[str] = []
    for name, path in shards:
        found, damage = _members(name, path)
        videos += found
        if damage:
            damaged.append(f"{path}: {damage}")
    if damaged:
        raise UserError(
            f"{len(damaged)} of {len(shards)} shards cannot be used: {'; '.join(damaged[:3])}"
            f"{f'; and {len(damaged) - 3} more' if len(damaged) > 3 else ''}. Fetch them again, or name the others alone"
        )
    return videos


def _members(shard: str, path: Path) -> tuple[list[Video], str]:
    """The videos of a shard up to where it is damaged, and how it is; the text is empty if it is not."""
    videos: dict[str, Video] = {}
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            where = ""
            while (member := archive.next()) is not None:
                if not member.isreg() or Path(member.name).suffix.lower() not in SUFFIXES:
                    pass
                elif member.sparse is not None:
                    return list(videos.values()), f"{one_line(member.name)} is stored with holes, which is not read"
                elif member.offset_data + member.size <= size:
                    # of two members with one name the later one counts, as when a tar file is unpacked
                    name = f"{shard}/{one_line(member.name.removeprefix('./'))}"
                    videos[name] = Video(name, path, member.offset_data, member.size)
                archive.members = []  # type: ignore[attr-defined]  # they would stay in memory
                if member.offset_data + member.size > size:
                    where = f"in {one_line(member.name)}"
                    break
            if not where and not _ends_well(path, archive.offset):
                where = f"at byte {archive.offset}"
    except (tarfile.TarError, OSError, ValueError) as error:
        if not videos:
            return [], _no_tar(path, error)
        where = f"({error})"
    found = list(videos.values())
    return found, f"cut off or damaged {where}, after {len(found)} whole videos" if where else ""


def _ends_well(path: Path, offset: int) -> bool:
    """True if the archive ends with the block of zeros that marks its end: `tarfile` takes any other end as well."""
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    return block == bytes(tarfile.BLOCKSIZE)


def _no_tar(path: Path, error: Exception) -> str:
    with open(path, "rb") as file:
        compressed = file.read(4).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd"))
    return "compressed; unpack it, videos are read in place" if compressed else f"no tar file, or cut off ({error})"
