"""PSNR between frames."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from eval.frames.pairs import check_pair

MAX_PSNR_DB = 100.0  # given for identical frames, whose PSNR is infinite: JSON has no infinity


def frame_psnrs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PSNR in dB, peak 255, of uint8 frames (N, H, W, 3) against others: (N,)."""
    check_pair(a, b, "PSNR")
    first, second = (torch.from_numpy(np.ascontiguousarray(frames)).double() for frames in (a, b))
    psnr = peak_signal_noise_ratio(first, second, data_range=255.0, reduction="none", dim=(1, 2, 3))
    return psnr.clamp(max=MAX_PSNR_DB).reshape(-1).numpy()


def clip_psnr(clip: np.ndarray, reference: np.ndarray) -> float:
    """The mean over the frames of uint8 clips (T, H, W, 3) of their PSNR in dB, as papers on video prediction give it."""
    return float(frame_psnrs(clip, reference).mean())
