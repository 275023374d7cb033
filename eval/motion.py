"""The motion of clips: the figure beside the distance that exposes a still video, and one that moves too much."""

from __future__ import annotations

import cv2
import numpy as np

from eval.clips import check_clips
from mobilevd.errors import UserError

ROWS = 30
"""Blocks along the shorter side, at least 2 pixels each: finer detail would mostly be noise of pictures and of codecs."""
BLUR_BLOCKS = 2.0  # deviation: changes stay proportional to the speed while things move less than about this per frame


def clip_motion(clip: np.ndarray) -> float:
    """Mean change from frame to frame of one uint8 clip (T, H, W, 3), T >= 2, with white as 1; noise does not raise it.

    Luma is averaged in blocks and blurred, twice: over the black and over the white squares of a chessboard of pixels.
    Noise is independent between the two, motion is not. So the change of one is counted with the sign that the other's
    has, `(d_b sign(d_w) + d_w sign(d_b)) / 2`: where nothing moves this averages to 0, elsewhere to |d|. No noise level has
    to be known. Changes below the noise that averaging leaves (0.2 grey levels at 320x240, for noise of 4) are lost in it.

    0 for a still clip. A change of brightness counts as motion. UserError for frames smaller than 2x2 pixels.
    """
    if min(clip.shape[1:3]) < 2:
        raise UserError(f"motion: frames of at least 2x2 pixels are needed, got {clip.shape[2]}x{clip.shape[1]}")
    block = max(2, round(min(clip.shape[1:3]) / ROWS))
    previous, changes = None, []
    for frame in clip:
        halves = _chessboard_halves(frame, block)
        if previous is not None:
            black, white = (now - before for now, before in zip(halves, previous, strict=True))
            changes.append(float((black * np.sign(white) + white * np.sign(black)).mean(dtype=np.float64)) / 2)
        previous = halves
    return max(0.0, float(np.mean(changes))) / 255


def _chessboard_halves(frame: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Luma of a frame (H, W, 3) in blocks, blurred: of the black and of the white squares, float32 (H/block, W/block)."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    rows, columns = (side // block for side in luma.shape)
    luma = luma[: rows * block, : columns * block]
    black = np.indices(luma.shape, dtype=np.uint8).sum(axis=0, dtype=np.uint8) % 2
    size = columns, rows
    share = cv2.resize(black.astype(np.float32), size, interpolation=cv2.INTER_AREA)  # 1/2, or nearly: odd blocks
    halves = []
    for mask, weight in ((black, share), (1 - black, 1 - share)):
        mean = cv2.resize(luma * mask, size, interpolation=cv2.INTER_AREA) / weight
        halves.append(cv2.GaussianBlur(mean, (0, 0), BLUR_BLOCKS, borderType=cv2.BORDER_REPLICATE))
    return halves[0], halves[1]


def ratio_of_motions(generated: np.ndarray, real: np.ndarray) -> float:
    """The ratio of mean `clip_motion` of generated clips (N,) to that of real ones (M,); UserError if those are still."""
    magnitude = float(np.mean(real))
    if magnitude == 0:
        raise UserError("motion ratio: the real clips do not move at all, so there is nothing to compare with")
    return float(np.mean(generated)) / magnitude


def motion_ratio(generated: np.ndarray, real: np.ndarray) -> float:
    """Mean `clip_motion` of clips (N, T, H, W, 3) over that of real ones; 1 is right. UserError if those are still."""
    for clips in (generated, real):
        check_clips(clips, min_frames=2)
    return ratio_of_motions(*(np.array([clip_motion(clip) for clip in clips]) for clips in (generated, real)))


def motion_magnitude(clips: np.ndarray) -> float:
    """Mean absolute change from frame to frame of uint8 clips (N, T, H, W, 3), with white as 1: noise counts, too.

    The training's filters and motion buckets go by this one, on frames so small that noise is averaged away.
    Raises UserError for another form or fewer than 2 frames.
    """
    check_clips(clips, min_frames=2)
    # One clip at a time: int16 differences of a whole set would take three times its memory.
    changes = [np.abs(np.diff(clip.astype(np.int16), axis=0)).mean(dtype=np.float64) for clip in clips]
    return float(np.mean(changes)) / 255
