"""Sinusoidal embeddings and the two-layer network behind them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SinusoidalEmbedding(nn.Module):
    """Cosine and sine features of a number: (N,) -> (N, dim), wavelengths from 2 pi to 20000 pi.

    The frequencies are a buffer, not computed in the forward pass: `arange` would stay outside a phone's delegate.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32) / half
        self.register_buffer("frequencies", torch.exp(exponent), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # always in float32: a half-precision phase of a large number is noise
        phase = x.float()[:, None] * self.frequencies.float()[None, :]
        return torch.cat([phase.cos(), phase.sin()], dim=-1)


class EmbeddingMLP(nn.Module):
    """Linear, SiLU, linear: (N, dim_in) -> (N, dim_out)."""

    def __init__(self, dim_in: int, dim_hidden: int, dim_out: int | None = None) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim_in, dim_hidden)
        self.linear_2 = nn.Linear(dim_hidden, dim_out or dim_hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))
