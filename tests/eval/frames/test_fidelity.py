"""PSNR and SSIM of clips, by closed forms and by arithmetic written anew."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import structural_similarity_index_measure

from eval.frames.psnr import MAX_PSNR_DB, clip_psnr, frame_psnrs
from eval.frames.ssim import clip_ssim, frame_ssims
from mobilevd.errors import UserError


def clip(seed: int, frames: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(frames, 24, 40, 3), dtype=np.uint8)


def test_psnr() -> None:
    flat = np.full((2, 16, 16, 3), 100, np.uint8)
    other = np.stack([np.full((16, 16, 3), 101, np.uint8), np.full((16, 16, 3), 120, np.uint8)])
    expected = [20 * math.log10(255 / 1), 20 * math.log10(255 / 20)]
    assert frame_psnrs(flat, other) == pytest.approx(expected)
    assert clip_psnr(flat, other) == pytest.approx(sum(expected) / 2)  # the mean of decibels, not of squares
    assert clip_psnr(flat, flat) == MAX_PSNR_DB


def test_ssim_as_wang_defines_it() -> None:
    a = clip(0)
    b = np.clip(a * 0.7 + 0.3 * clip(1), 0, 255).astype(np.uint8)

    def blur(x: np.ndarray) -> np.ndarray:  # 11x11, deviation 1.5; truncate cuts at 5 pixels
        return gaussian_filter(x, 1.5, truncate=5 / 1.5, mode="mirror")

    values = []
    for x, y in zip(a.astype(float), b.astype(float), strict=True):
        for x1, y1 in zip(np.moveaxis(x, -1, 0), np.moveaxis(y, -1, 0), strict=True):
            mx, my = blur(x1), blur(y1)
            vx, vy, cov = blur(x1 * x1) - mx * mx, blur(y1 * y1) - my * my, blur(x1 * y1) - mx * my
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append(((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    assert clip_ssim(a, b) == pytest.approx(np.mean(values), rel=1e-9)
    x, y = (torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255 for frames in (a, b))
    theirs = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    assert frame_ssims(a, b) == pytest.approx(np.asarray(theirs), rel=1e-6)
    assert clip_ssim(a, a) == pytest.approx(1)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="PSNR: two uint8 clips"):
        clip_psnr(clip(0), clip(0, frames=2))
    with pytest.raises(UserError, match="SSIM: frames of at least 11 pixels a side are needed, got 40x8"):
        clip_ssim(clip(0)[:, :8], clip(0)[:, :8])
