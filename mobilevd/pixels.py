"""Pixels: uint8 to [-1, 1] and back, resizing, reading of picture files, and the noise that a clip starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mobilevd.picture_files import open_picture


def to_float(pixels: Tensor) -> Tensor:
    """uint8 pixels of any shape -> float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def frames_to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3))))


def tensor_to_frames(frames: Tensor) -> np.ndarray:
    """Float (..., 3, H, W) in [-1, 1] -> uint8 (..., H, W, 3); values outside are clipped."""
    pixels = ((frames.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.movedim(-3, -1).cpu().numpy()


def resize_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 frames (H, W, 3), or clips of any number of leading axes, to another size: bilinear with antialiasing."""
    if frames.shape[-3:-1] == (height, width):
        return frames
    if frames.ndim > 4:  # clip by clip: in float they take four times their memory
        return np.stack([resize_frames(clip, height, width) for clip in frames])
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).reshape(-1, *frames.shape[-3:]).permute(0, 3, 1, 2).float()
    small = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).reshape(*frames.shape[:-3], height, width, 3).numpy()


def read_picture(path: Path, height: int, width: int) -> Tensor:
    """A picture file as (1, 3, H, W) in [-1, 1]: centre-cropped to the asked aspect, then resized (Lanczos).

    Raises UserError for a file that cannot be read (`open_picture`).
    """
    picture = open_picture(path)
    scale = min(picture.width / width, picture.height / height)
    crop_width, crop_height = scale * width, scale * height
    left, top = (picture.width - crop_width) / 2, (picture.height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    small = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
    return to_float(torch.from_numpy(np.array(small)).permute(2, 0, 1)[None])


def starting_noise(seed: int, *shape: int) -> tuple[Tensor, torch.Generator]:
    """The clip's noise (1, T, C, h, w), a seed's first draw, and the generator, for the picture's augmentation next."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, *shape), generator=generator), generator
