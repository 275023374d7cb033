"""Integer weights: symmetric, a scale per output channel or per group of input channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GROUP_SIZE = 32
"""Input channels per scale in four bits. XNNPACK takes multiples of 32, and the smallest loses least accuracy."""
CLIPPING = torch.linspace(0.6, 1.0, 17)  # fractions of the largest weight that are tried as four-bit ranges


@dataclass(frozen=True)
class WeightFormat:
    """Storage of a layer's weights: 8 or 4 bits; in four, linear layers in groups of `group_size` where that fits."""

    bits: int
    group_size: int | None = None


@dataclass(frozen=True)
class QuantizedWeight:
    """real = values * scale.

    Attributes:
        values: int8 (out, ...), in [-127, 127], or [-8, 7] for four bits.
        scale: (out,), or (out, groups) if `group_size` is given.
        bits: 8 or 4.
        group_size: input channels per scale; None: all.
    """

    values: Tensor
    scale: Tensor
    bits: int
    group_size: int | None = None

    def dequantized(self) -> Tensor:
        """float32, of the shape of `values`."""
        if self.group_size is None:
            return self.values.float() * self.scale.reshape(-1, *[1] * (self.values.ndim - 1))
        grouped = self.values.float().unflatten(1, (-1, self.group_size))
        return (grouped * self.scale[:, :, None]).flatten(1)

    @property
    def size_bytes(self) -> int:
        """Size of values and scales, as they are stored."""
        return self.values.numel() * self.bits // 8 + self.scale.numel() * (4 if self.group_size is None else 2)


def quantize_weight(weight: Tensor, form: WeightFormat) -> QuantizedWeight:
    """Round a weight (out, ...) to integers.

    Eight bits span the largest weight of each channel. Four bits have coarse steps, so their range is the one of
    several with the least squared error. Convolutions stay at eight bits, the only width that XNNPACK has for them.
    """
    weight = weight.detach().float()
    if form.bits == 8 or weight.ndim != 2:
        flat = weight.flatten(1)
        scale = flat.abs().amax(1).clamp(min=1e-12) / 127
        values = torch.round(flat / scale[:, None]).clamp(-127, 127).to(torch.int8)
        return QuantizedWeight(values.reshape(weight.shape), scale, 8)
    group = form.group_size if form.group_size and weight.shape[1] % form.group_size == 0 else None
    grouped = weight.unflatten(1, (-1, group or weight.shape[1]))  # (out, groups, group)
    scale = _best_scale(grouped)  # (out, groups)
    if group is not None:
        scale = scale.to(torch.bfloat16).float()  # as stored: the weights are rounded to the final scale
    values = _round4(grouped, scale).to(torch.int8).flatten(1)
    return QuantizedWeight(values, scale if group is not None else scale[:, 0], 4, group)


def _round4(grouped: Tensor, scale: Tensor) -> Tensor:
    return torch.round(grouped / scale[:, :, None]).clamp(-8, 7)


def _best_scale(grouped: Tensor) -> Tensor:
    """(out, groups, n) -> (out, groups): the scale of least squared error, among some that clip the largest weights."""
    largest = grouped.abs().amax(2).clamp(min=1e-12) / 7.5
    best, best_error = largest, torch.full_like(largest, torch.inf)
    for share in CLIPPING:
        scale = largest * share
        error = (_round4(grouped, scale) * scale[:, :, None] - grouped).pow(2).sum(2)
        better = error < best_error
        best, best_error = torch.where(better, scale, best), torch.where(better, error, best_error)
    return best
