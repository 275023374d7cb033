"""SSIM between frames (Wang et al. 2004: 11x11 Gaussian window of deviation 1.5)."""

from __future__ import annotations

import numpy as np
import torch

from eval.frames.pairs import check_pair, unit_frames

WINDOW = 11


def frame_ssims(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM, mean over the colours, of uint8 frames (N, H, W, 3) against others: (N,). UserError below 11 pixels a side."""
    # imported here: torchmetrics brings torchvision and more along, which take seconds
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_pair(a, b, "SSIM", min_size=WINDOW)
    ssim = structural_similarity_index_measure(unit_frames(a), unit_frames(b), data_range=1.0, reduction="none")
    assert isinstance(ssim, torch.Tensor)  # a pair only where the full image is asked for
    return ssim.reshape(-1).numpy()


def clip_ssim(clip: np.ndarray, reference: np.ndarray) -> float:
    """The mean over the frames of uint8 clips (T, H, W, 3) of their SSIM."""
    return float(frame_ssims(clip, reference).mean())
