"""PSNR between frames."""

from __future__ import annotations

import numpy as np

from eval.frames.pairs import check_pair

MAX_PSNR_DB = 100.0  # given for identical frames, whose PSNR is infinite: JSON has no infinity


def frame_psnrs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PSNR in dB, peak 255, of uint8 frames (N, H, W, 3) against others: (N,)."""
    check_pair(a, b, "PSNR")
    errors = (a.astype(np.float64) - b) ** 2
    mean = errors.mean(axis=(1, 2, 3)) / 255**2
    return np.minimum(MAX_PSNR_DB, -10 * np.log10(np.maximum(mean, 10 ** (-MAX_PSNR_DB / 10))))


def clip_psnr(clip: np.ndarray, reference: np.ndarray) -> float:
    """The mean over the frames of uint8 clips (T, H, W, 3) of their PSNR in dB, as papers on video prediction give it."""
    return float(frame_psnrs(clip, reference).mean())
