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


def form_of(clips: np.ndarray) -> tuple[int, int, int]:
    """Frames, height and width of clips (N, T, H, W, 3)."""
    _, frames, height, width, _ = clips.shape
    return frames, height, width


def describe_form(form: tuple[int, int, int]) -> str:
    """Frames, height and width in words: "8 frames of 64x32"."""
    return f"{form[0]} frames of {form[2]}x{form[1]}"
