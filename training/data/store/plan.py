"""What is to be done at a place: which shards of which clips are whole, and which are still to be written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from training.data.store.groups import ClipSet
from training.data.store.key import difference, key_of
from training.data.store.manifest import (
    MANIFEST,
    NOT_OURS,
    REPORT,
    Section,
    Shard,
    StoreManifest,
    read_manifest,
    record_file,
    shard_from_json,
)
from training.data.store.pieces import default_precision, device_of
from training.data.store.place import Place

OURS = re.compile(rf"{re.escape(MANIFEST)}|{re.escape(REPORT)}|shard-\d{{6}}\.(arrow|json)")


@dataclass(frozen=True)
class WriteSettings:
    """How a store is written.

    Attributes:
        shard_mb: size of a shard in MB, about.
        workers: processes that decode, for each process that encodes; None: one per core.
        precision: "bf16" or "fp32"; None: bf16 on a GPU, else fp32. What a store was begun with is kept.
        renew: what was made from something else is removed and made anew, and is no error.
        verify: compare the content of finished shards with their checksums.
    """

    shard_mb: int = 1024
    workers: int | None = None
    precision: str | None = None
    renew: bool = False
    verify: bool = False


@dataclass(frozen=True)
class Plan:
    """A store as it is found: its manifest, the shards that are whole, and what is to be told."""

    manifest: StoreManifest
    finished: list[Shard]
    lines: list[str]

    @property
    def to_do(self) -> list[int]:
        there = {shard.number for shard in self.finished}
        return [number for number in range(self.manifest.shard_count) if number not in there]


def find_plan(place: Place, clips: ClipSet, codec: Codec, settings: WriteSettings) -> Plan:
    """Look at what is there; a store of something else is removed if `settings.renew`, else refused."""
    key = key_of(clips, codec)
    manifest = read_manifest(place)
    if manifest is not None and (different := difference(manifest.key, key)):
        if not settings.renew:
            raise UserError(f"{place.shown()}: its clips were encoded {different}; give another data.cache")
        _remove(place)
        manifest = None
    if manifest is None:
        if names := place.names():
            raise UserError(f"{place.shown()}: is not empty ({names[0]}, ...) and {NOT_OURS}")
        device = device_of(codec)
        precision = settings.precision or default_precision(device)
        return Plan(StoreManifest(key, precision, _sections(clips, codec, settings.shard_mb), None), [], [])
    if manifest.shards is not None:
        records = manifest.shards
    else:
        names = set(place.names())
        numbers = (number for number in range(manifest.shard_count) if record_file(number) in names)
        records = [record for number in numbers if (record := _record(place, number)) is not None]
    finished, lines = [], []
    for record in records:
        size = place.size(record.file)
        if size == record.bytes:
            finished.append(record)
        else:
            state = "is missing" if size is None else f"has {size} bytes, not the {record.bytes} that were written"
            lines.append(f"{place.shown(record.file)}: {state}; it is made again")
    return Plan(manifest, finished, lines)


def _remove(place: Place) -> None:
    """Remove a store, the manifest last of all: until then the rest is known as ours."""
    for name in place.names():
        if OURS.fullmatch(name) and name != MANIFEST:
            place.remove(name)
    place.remove(MANIFEST)


def bytes_to_write(plan: Plan, clips: ClipSet, codec: Codec) -> int:
    """Bytes that are still to be written, about."""
    total = 0
    for shard in plan.to_do:
        section, numbers = plan.manifest.clips_of(shard)
        total += len(numbers) * clips.clip_bytes(clips.groups[section], codec)
    return total


def _sections(clips: ClipSet, codec: Codec, shard_mb: int) -> list[Section]:
    sections = []
    for group in clips.groups:
        per_shard = max(1, shard_mb * 2**20 // clips.clip_bytes(group, codec))
        latents = (clips.num_frames, codec.latent_channels, *codec.latent_size(group.height, group.width))
        sections.append(Section(group.height, group.width, len(group.clips), per_shard, latents, codec.embedding_dim))
    return sections


def _record(place: Place, number: int) -> Shard | None:
    try:
        record = shard_from_json(place.read_json(record_file(number)))
    except (UserError, KeyError, TypeError, ValueError):
        return None  # damaged: the shard is made again
    return record if record.number == number else None
