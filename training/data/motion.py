"""How much a real clip moves: what tells a still screen, or a file of one picture per second, from a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.motion import motion_magnitude

HEIGHT, WIDTH = 36, 64
"""Size at which motion is measured, whatever the run's; coding noise is averaged away at it."""
SAME = 1  # grey level; by which rounding differs where nothing moved


@dataclass(frozen=True)
class ClipMotion:
    """Motion of a clip.

    Attributes:
        magnitude: mean absolute change from frame to frame, with white as 1 (`eval.motion`).
        repeated: share of the frames after the first that show what the frame before showed, from 0 to 1.
    """

    magnitude: float
    repeated: float


def motion_of(frames: np.ndarray) -> ClipMotion:
    """Measure uint8 frames (T, H, W, 3), T >= 2, read at `HEIGHT` x `WIDTH`."""
    changes = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(axis=(1, 2, 3))  # (T - 1,)
    return ClipMotion(motion_magnitude(frames[None]), float((changes <= SAME).mean()))
