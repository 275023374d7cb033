"""Held-out clips of a run: their pixels, at the sizes that evaluation and validation want, and what names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline.data import RunClips, spread
from training.data.clips import Clip
from training.data.video import read_clip

MAX_REFERENCE_CLIPS = 2048  # as in the usual FVD protocol


def reference_clips(clips: RunClips, limit: int = MAX_REFERENCE_CLIPS) -> list[Clip]:
    """The real clips to compare with, spread over all held-out videos. UserError if a distance needs more."""
    chosen = spread(clips.test.clips, limit)
    if len(chosen) < 2:
        raise UserError(
            f"{_file(chosen[0]).parent}: {len(chosen)} clip to judge by; a distance needs at least 2: add videos, or "
            "raise data.holdout or data.clips_per_video"
        )
    return chosen


def identity_of(clip: Clip) -> list[object]:
    """What tells a clip from others of the same source: the name of its file, and its start in seconds."""
    return [_file(clip).name, round(clip.start_s, 3)]


def state_of(clip: Clip) -> list[object]:
    """Size and time of change of the clip's file: others mean that its pixels may be others."""
    status = _file(clip).stat()
    return [status.st_size, status.st_mtime_ns]


def read_pixels(config: RunConfig, clip: Clip, height: int, width: int) -> np.ndarray:
    """A clip as uint8 (T, H, W, 3)."""
    data = config.data
    return read_clip(_file(clip), data.num_frames, data.fps, clip.start_s, height, width)


def read_first_frame(config: RunConfig, clip: Clip, height: int, width: int) -> np.ndarray:
    """A clip's first frame as uint8 (H, W, 3); the rest of it is not decoded."""
    return read_clip(_file(clip), 1, config.data.fps, clip.start_s, height, width)[0]


def read_for_evaluation(config: RunConfig, clip: Clip) -> np.ndarray:
    """A clip at the evaluation's size, uint8 (T, H, W, 3), read at the data's and made smaller at once."""
    pixels = read_pixels(config, clip, config.data.height, config.data.width)
    return resize_frames(pixels, config.evaluation.height, config.evaluation.width)


def resize_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (..., H, W, 3) to another size: bilinear with antialiasing."""
    if frames.shape[-3:-1] == (height, width):
        return frames
    leading = frames.shape[:-3]
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).reshape(-1, *frames.shape[-3:]).permute(0, 3, 1, 2).float()
    small = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).reshape(*leading, height, width, 3).numpy()


def _file(clip: Clip) -> Path:
    return clip.path
