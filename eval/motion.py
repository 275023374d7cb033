"""The motion of clips: the figure beside the distance that exposes a still or a boiling video."""

from __future__ import annotations

import numpy as np

from eval.clips import check_clips
from mobilevd.errors import UserError


def clip_motion(clip: np.ndarray) -> float:
    """Mean absolute frame-to-frame change of one uint8 clip (T, H, W, 3), T >= 2, with white as 1."""
    return float(np.abs(np.diff(clip.astype(np.int16), axis=0)).mean(dtype=np.float64)) / 255


def motion_magnitude(clips: np.ndarray) -> float:
    """Mean over uint8 clips (N, T, H, W, 3) of their `clip_motion`: from 0 (still) to 1.

    Noise and flicker count as change too, deliberately: a ratio far above 1 tells as much as one below.
    Raises UserError for another form or fewer than 2 frames.
    """
    check_clips(clips, min_frames=2)
    # One clip at a time: int16 differences of a whole set would take three times its memory.
    return float(np.mean([clip_motion(clip) for clip in clips]))


def ratio_of_motions(generated: np.ndarray, real: np.ndarray) -> float:
    """The ratio of mean `clip_motion` of generated clips (N,) to that of real ones (M,); UserError if those are still."""
    magnitude = float(np.mean(real))
    if magnitude == 0:
        raise UserError("motion ratio: the real clips do not move at all, so there is nothing to compare with")
    return float(np.mean(generated)) / magnitude


def motion_ratio(generated: np.ndarray, real: np.ndarray) -> float:
    """Motion magnitude of generated clips over that of real ones; 1 is right. UserError if real ones stand still."""
    return ratio_of_motions(np.array([motion_magnitude(generated)]), np.array([motion_magnitude(real)]))
