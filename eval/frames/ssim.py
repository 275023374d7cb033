"""SSIM between frames (Wang et al. 2004: 11x11 Gaussian window of deviation 1.5)."""

from __future__ import annotations

import cv2
import numpy as np

from eval.frames.pairs import check_pair

WINDOW, DEVIATION = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 with white L = 1


def frame_ssims(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM, mean over the colours, of uint8 frames (N, H, W, 3) against others: (N,). UserError below 11 pixels a side.

    The values of torchmetrics in float64 (in float32 flat frames are wrong by 1e-4), a hundred times as fast, by windows
    that are separated into rows and columns.
    """
    check_pair(a, b, "SSIM", min_size=WINDOW)
    return np.array([_ssim(x / 255, y / 255) for x, y in zip(a, b, strict=True)])


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x, variance_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return float(np.mean(top / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))))


def _windowed(x: np.ndarray) -> np.ndarray:
    """Weighted means of float64 (H, W, 3) in the window around each pixel; frames are mirrored at their borders."""
    return cv2.GaussianBlur(x, (WINDOW, WINDOW), DEVIATION, borderType=cv2.BORDER_REFLECT_101)


def clip_ssim(clip: np.ndarray, reference: np.ndarray) -> float:
    """The mean over the frames of uint8 clips (T, H, W, 3) of their SSIM."""
    return float(frame_ssims(clip, reference).mean())
