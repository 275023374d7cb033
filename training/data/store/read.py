"""Reading a store by number: nothing of it is kept in memory but where every clip lies, 8 bytes for each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mobilevd.errors import UserError
from training.data.batch import StoredClip
from training.data.store.key import difference
from training.data.store.manifest import Shard, StoreManifest, read_manifest, shard_file
from training.data.store.place import LocalPlace, Place
from training.data.store.shard import clip_from_bytes, schema_of

REMOTE_READS = 8
"""Requests under way at a time."""


class ShardStore:
    """The clips of a finished store, a `ClipStore`. Several threads and processes may read at a time.

    UserError if shards are missing or of another size than was written.
    """

    def __init__(self, place: Place, manifest: StoreManifest) -> None:
        if manifest.shards is None:
            raise UserError(f"{place.shown()}: not all of its clips are encoded; `mobilevd cache` goes on")
        check_sizes(place, manifest.shards)
        self.place = place
        clips = [shard.clips for shard in manifest.shards]
        self._ends = np.cumsum(clips, dtype=np.int64)  # number of the clip after each shard's last
        self._bounds = np.concatenate([np.asarray(shard.bounds, dtype=np.int64) for shard in manifest.shards])
        self._section = np.array([manifest.clips_of(shard.number)[0] for shard in manifest.shards])
        self._schemas = [schema_of(section.latents, section.embedding) for section in manifest.sections]
        counts = np.zeros(len(manifest.sections), dtype=np.int64)
        np.add.at(counts, self._section, clips)
        self._sizes = [int(each) for each in counts]
        self.skipped = [f"{clip}: {reason}" for shard in manifest.shards for clip, reason in shard.skipped]

    @property
    def sizes(self) -> list[int]:
        return list(self._sizes)

    def __len__(self) -> int:
        return sum(self._sizes)

    def read(self, numbers: Sequence[int]) -> list[StoredClip]:
        """The clips of these numbers. UserError names the shard that is gone, cut off or damaged."""
        if isinstance(self.place, LocalPlace) or len(numbers) < 2:
            return [self._read(number) for number in numbers]
        with ThreadPoolExecutor(min(REMOTE_READS, len(numbers))) as pool:
            return list(pool.map(self._read, numbers))

    def _read(self, number: int) -> StoredClip:
        if not 0 <= number < len(self):
            raise IndexError(f"clip {number} of {len(self)}")
        shard = int(np.searchsorted(self._ends, number, side="right"))
        # a shard has one bound more than clips: there are `shard` bounds more than clips before it
        begin, end = (int(each) for each in self._bounds[number + shard : number + shard + 2])
        file = shard_file(shard)
        remedy = "`mobilevd cache` makes it again, and training goes on from its last checkpoint"
        try:
            data = self.place.read(file, begin, end)
        except Exception as error:  # every client of object storage has exceptions of its own
            told = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self.place.shown(file)}: cannot be read any more: {told}; {remedy}") from None
        if len(data) != end - begin:
            raise UserError(f"{self.place.shown(file)}: ends before the clip at byte {begin}: it was cut off; {remedy}")
        return clip_from_bytes(data, self._schemas[self._section[shard]], self.place.shown(file))


def check_sizes(place: Place, shards: Sequence[Shard]) -> None:
    """Raise UserError, which names a shard, if some are missing or have another size than was written."""
    wrong = [(shard, size) for shard in shards if (size := place.size(shard.file)) != shard.bytes]
    if wrong:
        shard, size = wrong[0]
        state = "is missing" if size is None else f"has {size} bytes, not the {shard.bytes} that were written"
        more = f" ({len(wrong)} of {len(shards)} shards are wrong)" if len(wrong) > 1 else ""
        raise UserError(f"{place.shown(shard.file)}: {state}{more}; `mobilevd cache` makes it again")


def open_store(place: Place, key: dict[str, Any] | None = None) -> ShardStore:
    """Open a finished store.

    Raises UserError if there is none, if it was made from something else than `key` (says what differs), or if shards are
    missing or of another size than was written.
    """
    manifest = read_manifest(place)
    if manifest is None:
        raise UserError(f"{place.shown()}: there are no encoded clips; `mobilevd cache` makes them")
    if key is not None and (different := difference(manifest.key, key)):
        raise UserError(f"{place.shown()}: its clips were encoded {different}; give another data.cache")
    return ShardStore(place, manifest)
