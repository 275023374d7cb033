"""The clips of a run: those to train on, and those to compare with."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from accelerate import PartialState

from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.pipeline.display import ActivityBar, Display
from training.data.batch import ClipStore
from training.data.clips import REASONS_SHOWN, Clip, ClipIndex, scan_videos
from training.data.corpus import write_corpus
from training.data.split import recorded_split
from training.data.store.groups import ClipGroup, ClipSet
from training.data.store.manifest import REPORT
from training.data.store.pixels import PixelStore
from training.data.store.place import Place, place_at
from training.data.store.plan import WriteSettings
from training.data.store.write import write_store
from training.data.video import read_clip


@dataclass(frozen=True)
class RunClips:
    """Clips to train on and held-out clips for evaluation; no video is in both."""

    train: ClipIndex
    test: ClipIndex


def _hold_out(config: RunConfig, videos: Path, index: ClipIndex) -> tuple[ClipIndex, ClipIndex]:
    """Split by file, as the run recorded it: all clips of a video are on one side."""

    def name(clip: Clip) -> str:
        return clip.path.relative_to(videos).as_posix()

    record = config.output / "data" / "split.json"
    try:
        split = recorded_split(record, map(name, index.clips), config.data.holdout, config.seed)
    except UserError as error:
        raise UserError(f"{videos}: {error}") from None
    test = [clip for clip in index.clips if name(clip) in split.judged]
    train = [clip for clip in index.clips if name(clip) in split.trained]
    return ClipIndex(train, index.skipped), ClipIndex(test, [])


def prepare_clips(config: RunConfig, display: Display) -> RunClips:
    """Find the user's videos, or write procedural ones, and list their clips."""
    data = config.data

    def scan(folder: Path) -> ClipIndex:
        with display.bar(f"reading {folder.name}") as bar:
            index = scan_videos(
                folder, data.num_frames, data.fps, data.clips_per_video, config.seed, bar.update, data.min_motion
            )
        display.line(f"  {index.summary()}")
        return index

    def write(part: str, count: int, seed: int) -> Path:
        scenes = data.scenes
        folder = config.output / "data" / f"scenes-{part}"
        with display.bar(f"writing {count} procedural videos ({part})", count) as bar:
            write_corpus(folder, count, seed, scenes.seconds, scenes.fps, data.height, data.width, bar.update)
        return folder

    if data.videos is not None:
        index = scan(data.videos)
        train, test = (
            (index, scan(data.reference_videos)) if data.reference_videos else _hold_out(config, data.videos, index)
        )
    else:
        train = scan(write("train", data.scenes.train, data.scenes.seed + 2 * config.seed))
        test = scan(data.reference_videos or write("test", data.scenes.test, data.scenes.seed + 2 * config.seed + 1))
    skipped = [{"file": str(s.path), "reason": s.reason} for s in (*train.skipped, *test.skipped)]
    atomic_write_json(
        config.output / "data" / "clips.json",
        {
            "train_clips": len(train.clips),
            "test_clips": len(test.clips),
            "repeated_frames": {"train": _repeated(train), "test": _repeated(test)},
            "skipped": skipped,
        },
    )
    return RunClips(train, test)


def _repeated(index: ClipIndex) -> float:
    """Share of the frames that repeat the one before, over all clips."""
    return float(np.mean([clip.motion.repeated for clip in index.clips])) if index.clips else 0.0


def training_clips(config: RunConfig, clips: ClipIndex, height: int, width: int, limit: int | None) -> ClipSet:
    """The clips that a stage trains on, at its working size."""
    chosen = spread(clips.clips, limit)
    buckets = [float(config.data.motion_bucket_id)] * len(chosen)
    return ClipSet([ClipGroup(height, width, chosen, buckets)], config.data.num_frames, config.data.fps)


def store_place(config: RunConfig, height: int, width: int, limit: int | None) -> Place:
    """The place of a stage's encoded clips: in the run's folder, or at `data.cache`."""
    name = f"{height}x{width}-{'all' if limit is None else limit}"
    if config.data.cache is None:
        return place_at(config.output / "data" / "clips" / name)
    return place_at(f"{config.data.cache.rstrip('/')}/{name}")


def training_latents(
    config: RunConfig,
    clips: ClipIndex,
    codec: Codec,
    height: int,
    width: int,
    limit: int | None,
    display: Display,
    processes: PartialState,
    verify: bool = False,
) -> ClipStore:
    """The encoded training clips at a working size; those that are not encoded yet are, each process its share.

    All processes call this. Clips of something else are replaced in the run's own folder, and an error at `data.cache`.
    `verify` reads finished shards and compares their checksums.
    """
    chosen = training_clips(config, clips, height, width, limit)
    if config.data.latents == "computed":
        return PixelStore(chosen, codec, config.data.workers)
    place = store_place(config, height, width, limit)
    settings = write_settings(config, verify)
    with ExitStack() as stack:
        bar = _Encoding(stack, display, height, width)
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


def spread(clips: list[Clip], limit: int | None) -> list[Clip]:
    """At most `limit` clips, evenly over the list (so over all videos); None: all."""
    if limit is None or len(clips) <= limit:
        return clips
    return [clips[i * len(clips) // limit] for i in range(limit)]


def read_clips(config: RunConfig, clips: list[Clip], height: int, width: int) -> np.ndarray:
    """Read the clips' pixels: uint8 (N, T, H, W, 3)."""
    data = config.data
    return np.stack([read_clip(c.video, data.num_frames, data.fps, c.start_s, height, width) for c in clips])
