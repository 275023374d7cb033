"""From uint8 clips to what a network sees, by the arithmetic of the code that a protocol is named after.

The ways differ in the number that comes out: a crop loses the sides of a wide clip, a stretch keeps and squeezes them,
and TensorFlow 1's bilinear is shifted by up to half a source pixel against the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.protocol_settings import ProtocolSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def keep_size(x: Tensor, size: int) -> Tensor:
    return x


def stretch(x: Tensor, size: int) -> Tensor:
    """Frames (N, 3, H, W) to (N, 3, size, size): bilinear at half-pixel centres, no antialiasing."""
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def short_side_crop(x: Tensor, size: int) -> Tensor:
    """Frames (N, 3, H, W) to (N, 3, size, size): `stretch`'s bilinear until the short side is `size`, the middle of it.

    The long side is rounded up, and the crop starts at the half of what is over, rounded down (VideoGPT's
    `videogpt/data.py`, of which common_metrics_on_video_quality has a copy).
    """
    height, width = x.shape[-2:]
    scale = size / min(height, width)
    # With a square, VideoGPT's rule rounds the height up too, which may come to size + 1; the crop takes it off again.
    target = (size, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), size)
    x = F.interpolate(x, size=target, mode="bilinear", align_corners=False)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return x[..., top : top + size, left : left + size]


def tf1_stretch(x: Tensor, size: int) -> Tensor:
    """Frames (N, 3, H, W) to (N, 3, size, size) as TensorFlow 1's `resize_bilinear(align_corners=False)`.

    Target pixel i is taken at source coordinate `i * in / size`, without half-pixel centres, in float32: first along
    the width, then along the height (tensorflow/core/kernels/image/resize_bilinear_op.cc).
    """
    for axis in (-1, -2):
        length = x.shape[axis]
        place = torch.arange(size, device=x.device).float() * (torch.tensor(length).float() / size).item()
        below = place.floor()
        weight = place - below  # (size,)
        if axis == -2:
            weight = weight[:, None]
        lower = x.index_select(axis, below.long())
        upper = x.index_select(axis, (below.long() + 1).clamp(max=length - 1))
        x = lower + (upper - lower) * weight
    return x


RESIZE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "network": keep_size,
    "native": keep_size,
    "stretch": stretch,
    "short-side": short_side_crop,
    "tf1-stretch": tf1_stretch,
}


@dataclass(frozen=True)
class Preprocessing:
    """A protocol's way from bytes to a network's input; see `ResizeSettings` and `ProtocolSettings.value_range`."""

    resize: str
    size: int | None
    value_range: str

    @classmethod
    def of(cls, settings: ProtocolSettings) -> Preprocessing:
        return cls(settings.resize.kind, settings.resize.size, settings.value_range)

    @property
    def record(self) -> dict[str, Any]:
        side = [self.size, self.size] if self.size else "the clip's"
        return {"input_size": side, "resize": self.resize, "value_range": self.value_range}

    def __call__(self, clips: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
        """Map uint8 (N, T, H, W, 3) to float32 (N, 3, T, size, size)."""
        n, t = clips.shape[:2]
        x = torch.from_numpy(np.ascontiguousarray(clips)).to(device).flatten(0, 1)
        x = self._to_range(x.permute(0, 3, 1, 2).float().contiguous())  # (N * T, 3, size, size)
        return x.reshape(n, t, *x.shape[1:]).transpose(1, 2).contiguous()

    def _to_range(self, x: Tensor) -> Tensor:
        """Resize frames of 0..255 and bring them to the range, in the order of the code that has this resizing."""
        resize, size = RESIZE[self.resize], self.size or 0
        if self.value_range == "bytes":
            return resize(x, size)
        if self.value_range == "signed" and self.resize != "short-side":
            return 2.0 * resize(x, size) / 255.0 - 1  # cd-fvd, and the TensorFlow 1 code
        x = resize(x / 255.0, size)
        if self.value_range == "unit":
            return x
        if self.value_range == "signed":
            return (x - 0.5) * 2
        mean, deviation = (torch.tensor(v, device=x.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        return (x - mean) / deviation
