"""Small pictures of decoded frames: what shots, motion and brightness are measured on."""

from __future__ import annotations

import av
import numpy as np

from training.data.display_matrix import swaps_sides, turn_of, turned
from training.data.motion import HEIGHT, WIDTH
from training.data.video import fitted
from training.data.video_colour import to_rgb

LONG_SIDE = 128
"""Pixels of the longer side in which shots are looked for."""


def small_frame(frame: av.VideoFrame) -> np.ndarray:
    """The whole picture, upright, its longer side `LONG_SIDE` pixels or less: uint8 (H, W, 3), RGB."""
    scale = min(1.0, LONG_SIDE / max(frame.height, frame.width))
    size = (max(1, round(frame.height * scale)), max(1, round(frame.width * scale)))
    return turned(to_rgb(frame, size), turn_of(frame))


def measured_frame(frame: av.VideoFrame, pixel_aspect: float) -> np.ndarray:
    """The centre of the picture at the size at which motion is measured: uint8 (HEIGHT, WIDTH, 3)."""
    return measured(small_frame(frame), shown_aspect(frame, pixel_aspect))


def measured(small: np.ndarray, aspect: float) -> np.ndarray:
    """`measured_frame` of a `small_frame` that is shown with this width / height."""
    return fitted(small, HEIGHT, WIDTH, aspect / (small.shape[1] / small.shape[0]))


def shown_aspect(frame: av.VideoFrame, pixel_aspect: float) -> float:
    """Width / height of the upright picture as it is shown."""
    aspect = frame.width / frame.height * pixel_aspect
    return 1 / aspect if swaps_sides(turn_of(frame)) else aspect
