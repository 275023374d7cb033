"""Other light and colours for clips: what differs between videos without being wrong in any of them."""

from __future__ import annotations

import torch
from torch import Tensor

UNCHANGED = 0.3  # share of clips


def change_light(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (N, 3, T, H, W) in [-1, 1], each with its own contrast, brightness, saturation, tint and order of colours, the
    same in all of its frames."""
    n = len(clips)

    def spread(scale: float, *shape: int) -> Tensor:
        return scale * torch.randn(n, *shape, 1, 1, 1, generator=generator)

    order = torch.rand(n, 3, generator=generator).argsort(1)
    order = torch.where(torch.rand(n, 1, generator=generator) < 0.5, order, torch.arange(3))
    x = clips.gather(1, order.reshape(n, 3, 1, 1, 1).expand_as(clips))
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * torch.exp(spread(0.4, 1))
    x = x * torch.exp(spread(0.35, 1)) + spread(0.25, 1) + spread(0.08, 3)
    same = torch.rand(n, 1, 1, 1, 1, generator=generator) < UNCHANGED
    return torch.where(same, clips, x.clamp(-1, 1))
