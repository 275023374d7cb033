"""Fewer frames or fewer pixels inside the UNet: down after the first stage, up again before the last (MobileVD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPERATORS = ("average", "stride")


class TemporalScale(nn.Module):
    """Divides the number of frames by `factor` (`down`) and repeats each frame `factor` times (`up`): (B*T, C, H, W).

    The paper gives the places and the nearest neighbour. The operator of `down` is not published: the average of
    neighbouring frames, or the first of them ("stride").
    """

    def __init__(self, factor: int, operator: str) -> None:
        super().__init__()
        self.factor, self.operator = factor, operator

    def down(self, x: Tensor) -> Tensor:
        frames, channels, height, width = x.shape
        groups = x.reshape(frames // self.factor, self.factor, channels, height * width)
        kept = groups[:, 0]
        if self.operator == "average":
            for k in range(1, self.factor):  # a sum of slices: a phone's mean works on the last two axes only
                kept = kept + groups[:, k]
            kept = kept * (1 / self.factor)
        return kept.reshape(frames // self.factor, channels, height, width)

    def up(self, x: Tensor) -> Tensor:
        frames, channels, height, width = x.shape
        ones = torch.ones(1, self.factor, 1, 1, dtype=x.dtype, device=x.device)
        repeated = x.reshape(frames, 1, channels, height * width) * ones
        return repeated.reshape(frames * self.factor, channels, height, width)


class SpatialScale(nn.Module):
    """Divides height and width by `factor`: (N, C, H, W) -> (N, C, H/f, W/f).

    There is no `up` here: the upsampler of the stage before the last restores the size together with its own doubling
    (see `mobilevd/model/unet.py`).
    """

    def __init__(self, factor: int, operator: str) -> None:
        super().__init__()
        self.factor, self.operator = factor, operator

    def down(self, x: Tensor) -> Tensor:
        if self.operator == "average":
            return F.avg_pool2d(x, self.factor)
        return x[:, :, :: self.factor, :: self.factor]
