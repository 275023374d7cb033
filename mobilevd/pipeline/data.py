"""The clips of a run: those to train on, and those to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.pipeline.display import Display
from training.data.clips import Clip, ClipIndex, scan_videos
from training.data.corpus import write_corpus
from training.data.latents import LatentDataset, build_latents
from training.data.split import recorded_split
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


def training_latents(
    config: RunConfig, clips: ClipIndex, codec: Codec, height: int, width: int, limit: int, display: Display
) -> LatentDataset:
    """The encoded training clips at a working size, from the run's cache if it has them."""
    chosen = ClipIndex(spread(clips.clips, limit), [])
    cache = config.output / "data" / f"latents-{height}x{width}-{len(chosen.clips)}.safetensors"
    with display.bar(f"encoding clips at {height}x{width}", len(chosen.clips)) as bar:
        latents = build_latents(
            chosen, codec, height, width, config.data.num_frames, config.data.fps, cache, progress=bar.update
        )
    for reason in latents.skipped:
        display.line(f"  skipped: {reason}")
    return latents


def spread(clips: list[Clip], limit: int) -> list[Clip]:
    """At most `limit` clips, evenly over the list (so over all videos)."""
    if len(clips) <= limit:
        return clips
    return [clips[i * len(clips) // limit] for i in range(limit)]


def read_clips(config: RunConfig, clips: list[Clip], height: int, width: int) -> np.ndarray:
    """Read the clips' pixels: uint8 (N, T, H, W, 3)."""
    data = config.data
    return np.stack([read_clip(c.path, data.num_frames, data.fps, c.start_s, height, width) for c in clips])
