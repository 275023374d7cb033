"""The clips of a run: those to train on, and those to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from mobilevd.config.schema import RunConfig
from mobilevd.files import atomic_write_json
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.processes import join_processes
from mobilevd.pipeline.sources import divide, find_listed, find_videos, index_videos
from training.data.clips import Clip, ClipIndex
from training.data.corpus import write_corpus
from training.data.sources.source import open_source
from training.data.video import read_clip


@dataclass(frozen=True)
class RunClips:
    """Clips to train on and held-out clips for evaluation; no video is in both."""

    train: ClipIndex
    test: ClipIndex


def prepare_clips(config: RunConfig, display: Display) -> RunClips:
    """Find the user's videos, or write procedural ones, and list their clips.

    All processes call this, the first one before the others: what it did is kept in the run's folder.
    """
    data = config.data
    first = join_processes().is_main_process

    def scenes(part: str, count: int, seed: int) -> ClipIndex:
        settings, folder = data.scenes, config.output / "data" / f"scenes-{part}"
        if first:
            with display.bar(f"writing {count} procedural videos ({part})", count) as bar:
                write_corpus(folder, count, seed, settings.seconds, settings.fps, data.height, data.width, bar.update)
        find = partial(open_source, folder)
        return index_videos(config, folder.name, folder.name, find, display, shots="none")[1]  # each is one shot

    def reference(place: str) -> ClipIndex:
        return index_videos(config, "reference", place, partial(find_videos, config, place, display), display)[1]

    seed = data.scenes.seed + 2 * config.seed
    if data.videos is None:
        train = scenes("train", data.scenes.train, seed)
        test = reference(data.reference_videos) if data.reference_videos else scenes("test", data.scenes.test, seed + 1)
    else:
        index, clips = index_videos(config, "videos", data.videos, partial(find_listed, config, display), display)
        if data.reference_videos is None:
            train, test = divide(config, index, clips)
        else:
            train, test = clips, reference(data.reference_videos)
    if first:
        _report(config, train, test)
    return RunClips(train, test)


def _report(config: RunConfig, train: ClipIndex, test: ClipIndex) -> None:
    """Write data/clips.json: how many clips there are, and what was left out and why."""
    atomic_write_json(
        config.output / "data" / "clips.json",
        {
            "train_clips": len(train.clips),
            "test_clips": len(test.clips),
            "repeated_frames": {"train": _repeated(train), "test": _repeated(test)},
            "left_out": {"train": dict(train.taken_by_filter), "test": dict(test.taken_by_filter)},
            "skipped": [{"file": str(s.video), "reason": s.reason} for s in (*train.skipped, *test.skipped)],
        },
    )


def _repeated(index: ClipIndex) -> float:
    """Share of the frames that repeat the one before, over all clips."""
    return float(np.mean([clip.motion.repeated for clip in index.clips])) if index.clips else 0.0


def spread(clips: list[Clip], limit: int | None) -> list[Clip]:
    """At most `limit` clips, evenly over the list (so over all videos); None: all."""
    if limit is None or len(clips) <= limit:
        return clips
    return [clips[i * len(clips) // limit] for i in range(limit)]


def read_pixels(config: RunConfig, clip: Clip, height: int, width: int, num_frames: int | None = None) -> np.ndarray:
    """A clip, or its first `num_frames`, at a size in pixels: uint8 (T, H, W, 3).

    The run's crop of every frame (`DataSettings.aspect`), whatever the size: a size of another shape sees it stretched.
    """
    data = config.data
    return read_clip(clip.video, num_frames or data.num_frames, data.fps, clip.start_s, height, width, data.aspect)


def read_clips(config: RunConfig, clips: list[Clip], height: int, width: int) -> np.ndarray:
    """`read_pixels` of several clips: uint8 (N, T, H, W, 3)."""
    return np.stack([read_pixels(config, clip, height, width) for clip in clips])
