"""The manifest of a store: its key, how clips are dealt out to shards, and what every finished shard holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from mobilevd.errors import UserError
from training.data.store.place import Place

MANIFEST = "manifest.json"
REPORT = "report.json"
KIND = "MobileVD clips"
NOT_OURS = "is no cache of encoded clips; give another data.cache"


@dataclass(frozen=True)
class Section:
    """The clips of one size, in shards of their own.

    Attributes:
        height, width: size of the clips in pixels.
        clips: number of clips that were asked for; some may not be readable.
        clips_per_shard: all shards have so many but the last.
        latents: shape (T, C, h, w) of a clip's latents.
        embedding: width of a clip's embedding.
    """

    height: int
    width: int
    clips: int
    clips_per_shard: int
    latents: tuple[int, int, int, int]
    embedding: int

    @property
    def shards(self) -> int:
        return math.ceil(self.clips / self.clips_per_shard)


@dataclass(frozen=True)
class Shard:
    """What a finished shard holds.

    Attributes:
        number: of the shard in the store.
        bytes, sha256: of its file.
        bounds: bytes at which each clip begins, and at which the last one ends: one more than there are clips.
        skipped: (clip, reason) of those that are not in it.
    """

    number: int
    bytes: int
    sha256: str
    bounds: list[int]
    skipped: list[list[str]] = field(default_factory=list)

    @property
    def clips(self) -> int:
        return len(self.bounds) - 1

    @property
    def file(self) -> str:
        return shard_file(self.number)


def shard_file(number: int) -> str:
    return f"shard-{number:06d}.arrow"


def record_file(number: int) -> str:
    """The note beside a shard that it is whole, from which the manifest is put together."""
    return f"shard-{number:06d}.json"


@dataclass(frozen=True)
class StoreManifest:
    """A store's content; `shards` is None until all of them are written."""

    key: dict[str, Any]
    precision: str
    sections: list[Section]
    shards: list[Shard] | None

    @property
    def shard_count(self) -> int:
        return sum(section.shards for section in self.sections)

    def clips_of(self, shard: int) -> tuple[int, range]:
        """The section of a shard, and the numbers in that section of the clips that belong into it."""
        for number, section in enumerate(self.sections):
            if shard < section.shards:
                first = shard * section.clips_per_shard
                return number, range(first, min(first + section.clips_per_shard, section.clips))
            shard -= section.shards
        raise IndexError("no such shard")

    def to_json(self) -> dict[str, Any]:
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any, shown: str) -> StoreManifest:
        """The manifest that `to_json` gave. UserError names the file if this is none."""
        try:
            if value["kind"] != KIND:
                raise ValueError("of another kind")
            sections = [Section(**{**each, "latents": _shape(each["latents"])}) for each in value["sections"]]
            shards = value["shards"]
            made = cls(
                dict(value["key"]),
                str(value["precision"]),
                sections,
                None if shards is None else [shard_from_json(each) for each in shards],
            )
            if made.shards is not None and [each.number for each in made.shards] != list(range(made.shard_count)):
                raise ValueError("shards are missing in it")
            return made
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{shown}: {NOT_OURS} ({error})") from None


def _shape(value: Any) -> tuple[int, int, int, int]:
    frames, channels, height, width = map(int, value)
    return frames, channels, height, width


def shard_from_json(value: Any) -> Shard:
    """A shard's record. Raises KeyError, TypeError or ValueError for anything else."""
    bounds = [int(each) for each in value["bounds"]]
    size = int(value["bytes"])
    if (
        not bounds
        or bounds[0] < 0
        or bounds[-1] > size
        or any(a >= b for a, b in zip(bounds, bounds[1:], strict=False))
    ):
        raise ValueError("clips that lie outside of their shard")
    return Shard(
        int(value["number"]), size, str(value["sha256"]), bounds, [list(map(str, s)) for s in value["skipped"]]
    )


def read_manifest(place: Place) -> StoreManifest | None:
    """The manifest at a place; None if there is none. UserError if it cannot be read."""
    value = place.read_json(MANIFEST)
    return None if value is None else StoreManifest.from_json(value, place.shown(MANIFEST))
