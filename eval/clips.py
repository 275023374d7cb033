"""The form of an array of clips, uint8 (N, T, H, W, 3), and its check."""

from __future__ import annotations

import numpy as np

from mobilevd.errors import UserError


def check_clips(clips: np.ndarray, *, min_frames: int = 1, what: str = "clips") -> None:
    """Raise UserError unless `clips` is uint8 (N >= 1, T >= min_frames, H, W, 3)."""
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        raise UserError(f"{what}: uint8 (N, T, H, W, 3) is asked for, got {clips.dtype} {clips.shape}")
    if 0 in clips.shape:
        raise UserError(f"{what}: no clips in an array of shape {clips.shape}")
    if clips.shape[1] < min_frames:
        raise UserError(f"{what}: at least {min_frames} frames per clip are needed, got {clips.shape[1]}")


def describe_form(clips: np.ndarray) -> str:
    """Number of frames and size in words: "8 frames of 64x32"."""
    _, t, h, w, _ = clips.shape
    return f"{t} frames of {w}x{h}"
