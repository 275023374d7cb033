"""Held-out clips of a run: their pixels, at the sizes that evaluation and validation want, and what names them."""

from __future__ import annotations

import numpy as np

from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline.data import RunClips, read_pixels, spread
from mobilevd.pixels import resize_frames
from training.data.clips import Clip

MAX_REFERENCE_CLIPS = 2048  # as in the usual FVD protocol


def reference_clips(clips: RunClips, limit: int = MAX_REFERENCE_CLIPS) -> list[Clip]:
    """The real clips to compare with, spread over all held-out videos. UserError if a distance needs more."""
    chosen = spread(clips.test.clips, limit)
    if len(chosen) < 2:
        place = chosen[0].video.path.parent if chosen else "the held-out videos"
        raise UserError(
            f"{place}: {len(chosen)} clip to judge by; a distance needs at least 2: add videos, or raise data.holdout or "
            "data.clips_per_video"
        )
    return chosen


def identity_of(clip: Clip) -> list[object]:
    """What tells a clip from others of the same source: its video's name there, and its start in seconds."""
    return [clip.video.name, round(clip.start_s, 3)]


def state_of(clip: Clip) -> list[object]:
    """Size and time of change of the clip's file: others mean that its pixels may be others."""
    status = clip.video.path.stat()
    return [clip.video.offset, status.st_size, status.st_mtime_ns]


def read_first_frame(config: RunConfig, clip: Clip, height: int, width: int) -> np.ndarray:
    """A clip's first frame as uint8 (H, W, 3); the rest of it is not decoded."""
    return read_pixels(config, clip, height, width, num_frames=1)[0]


def read_for_evaluation(config: RunConfig, clip: Clip) -> np.ndarray:
    """A clip at the evaluation's size, uint8 (T, H, W, 3), as a perfect base would return it.

    Read at the data's size and then reduced, as generated clips are: of the base exactly, of a smaller stage nearly, for
    its clips were reduced once more on the way.
    """
    pixels = read_pixels(config, clip, config.data.height, config.data.width)
    return resize_frames(pixels, config.evaluation.height, config.evaluation.width)
