"""The motion of clips: the figure beside the distance that exposes a still or a boiling video."""

from __future__ import annotations

import numpy as np

from eval.clips import check_clips
from mobilevd.errors import UserError


def motion_magnitude(clips: np.ndarray) -> float:
    """Mean absolute frame-to-frame change of uint8 clips (N, T, H, W, 3), with white as 1: from 0 (still) to 1.

    Noise and flicker count as change too, deliberately: a ratio far above 1 tells as much as one below.
    Raises UserError for another form or fewer than 2 frames.
    """
    check_clips(clips, min_frames=2)
    # One clip at a time: int16 differences of a whole set would take three times its memory.
    changes = [np.abs(np.diff(clip.astype(np.int16), axis=0)).mean(dtype=np.float64) for clip in clips]
    return float(np.mean(changes)) / 255


def motion_ratio(generated: np.ndarray, real: np.ndarray) -> float:
    """Motion magnitude of generated clips over that of real ones; 1 is right. UserError if real ones stand still."""
    magnitude = motion_magnitude(real)
    if magnitude == 0:
        raise UserError("motion ratio: the real clips do not move at all, so there is nothing to compare with")
    return motion_magnitude(generated) / magnitude
