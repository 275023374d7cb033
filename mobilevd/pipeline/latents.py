"""The clips that a stage trains on, encoded: each process its share, once, or in every step from the videos."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import timedelta

from accelerate import PartialState

from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline.data import spread
from mobilevd.pipeline.display import ActivityBar, Display
from mobilevd.pipeline.rows import Entry
from training.data.batch import ClipStore
from training.data.clips import REASONS_SHOWN, Clip, ClipIndex
from training.data.motion import MotionBuckets
from training.data.size_buckets import bucket_of, size_buckets
from training.data.store.groups import ClipGroup, ClipSet
from training.data.store.manifest import REPORT
from training.data.store.pixels import PixelStore
from training.data.store.place import Place, place_at
from training.data.store.plan import WriteSettings
from training.data.store.write import write_store


def training_clips(config: RunConfig, clips: ClipIndex, entry: Entry) -> ClipSet:
    """The clips that a stage trains on, by size, with their motion buckets."""
    assert entry.stage is not None
    data, chosen = config.data, spread(clips.clips, entry.stage.training.latent_clips)
    if not chosen:
        raise UserError(f"stages.{entry.name}: there is no clip to train on")
    sizes = size_buckets(entry.height, entry.width, data.aspect_ratios, entry.size_multiple)
    grouped: list[list[Clip]] = [[] for _ in sizes]
    for clip in chosen:
        grouped[bucket_of(clip.aspect, sizes)].append(clip)
    measured = MotionBuckets.fit([clip.motion.magnitude for clip in clips.clips])

    def bucket(clip: Clip) -> float:
        if data.motion_buckets == "constant":
            return float(data.motion_bucket_id)
        return measured.bucket(clip.motion.magnitude)

    crop = None if data.aspect_ratios else data.aspect  # buckets of sizes are there to keep shapes
    groups = [
        ClipGroup(height, width, listed, [bucket(clip) for clip in listed], crop)
        for (height, width), listed in zip(sizes, grouped, strict=True)
        if listed
    ]
    return ClipSet(groups, data.num_frames, data.fps)


def store_place(config: RunConfig, entry: Entry) -> Place:
    """The place of a stage's encoded clips: in the run's folder, or at `data.cache`."""
    assert entry.stage is not None
    limit = entry.stage.training.latent_clips
    shapes = f"-by-{entry.size_multiple}" if config.data.aspect_ratios else ""  # sizes are multiples of it
    name = f"{entry.height}x{entry.width}{shapes}-{'all' if limit is None else limit}"
    if config.data.cache is None:
        return place_at(config.output / "data" / "clips" / name)
    return place_at(f"{config.data.cache.rstrip('/')}/{name}")


def training_latents(
    config: RunConfig,
    clips: ClipIndex,
    codec: Codec,
    entry: Entry,
    display: Display,
    processes: PartialState,
    verify: bool = False,
) -> ClipStore:
    """The encoded training clips of a stage; those that are not encoded yet are, each process its share.

    All processes call this. Clips of something else are replaced in the run's own folder, and an error at `data.cache`.
    `verify` reads finished shards and compares their checksums.
    """
    chosen = training_clips(config, clips, entry)
    if config.data.latents == "computed":
        return PixelStore(chosen, codec, config.data.workers)
    place = store_place(config, entry)
    settings = write_settings(config, verify)
    with ExitStack() as stack:
        bar = _Encoding(stack, display, entry.height, entry.width)
        store = write_store(place, chosen, codec, settings, processes, bar, lambda line: display.line(f"  {line}"))
    for line in store.skipped[:REASONS_SHOWN]:
        display.line(f"  skipped: {line}")
    if (more := len(store.skipped) - REASONS_SHOWN) > 0:
        display.line(f"  and {more} more, in {place.shown(REPORT)}")
    return store


def write_settings(config: RunConfig, verify: bool = False) -> WriteSettings:
    data = config.data
    return WriteSettings(data.shard_mb, data.workers, renew=data.cache is None, verify=verify)


class _Encoding:
    """The bar of an encoding, which is shown once there is something to encode."""

    def __init__(self, stack: ExitStack, display: Display, height: int, width: int) -> None:
        self._stack, self._display, self._what = stack, display, f"encoding clips at {height}x{width}"
        self._bar: ActivityBar | None = None
        self._started = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._started = time.perf_counter()
            self._bar = self._stack.enter_context(self._display.bar(self._what, total))
        rate = done / max(1e-9, time.perf_counter() - self._started)
        left = f", {timedelta(seconds=round((total - done) / rate))} left" if 0 < done < total else ""
        self._bar.update(done, total, f"{rate:.1f} clips/s{left}")
