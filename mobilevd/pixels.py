"""Pixels: uint8 to [-1, 1] and back, resizing, reading of picture files, and the noise that a clip starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mobilevd.picture_files import open_picture
from mobilevd.resample import centre_box, resampled


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
    """uint8 frames (H, W, 3), or clips of any number of leading axes, to another size, as clips are read (`resampled`)."""
    if frames.shape[-3:-1] == (height, width):
        return frames
    small = np.empty((*frames.shape[:-3], height, width, 3), np.uint8)
    for place in np.ndindex(*frames.shape[:-3]):
        small[place] = resampled(frames[place], height, width)
    return small


def read_picture(path: Path, height: int, width: int) -> Tensor:
    """A picture file as (1, 3, H, W) in [-1, 1]: centre-cropped to the asked aspect, then resized (Lanczos).

    Raises UserError for a file that cannot be read (`open_picture`).
    """
    picture = open_picture(path)
    box = centre_box(picture.height, picture.width, width / height)
    small = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
    return to_float(torch.from_numpy(np.array(small)).permute(2, 0, 1)[None])


def starting_noise(seed: int, *shape: int) -> tuple[Tensor, torch.Generator]:
    """The clip's noise (1, T, C, h, w), a seed's first draw, and the generator, for the picture's augmentation next."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, *shape), generator=generator), generator
