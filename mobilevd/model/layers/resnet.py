"""Residual blocks: a spatial one per frame, a temporal one across frames, and their learned blend."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.model.layers.architecture import Architecture
from mobilevd.model.layers.ops import GroupNorm, repeat_per

NORM_GROUPS = 32  # as everywhere in SVD's UNet


class ResidualPart(nn.Module):
    """Norm, SiLU, convolution, twice, with the time embedding added between: (N, C_in, *, *) -> (N, C_out, *, *).

    The spatial part of a block runs on frames (B*T, C, H, W) with 3x3 kernels, the temporal part on (B, C, T, H*W)
    with 3x1 kernels: a 3x1x1 convolution over (T, H, W) without a tensor of rank 5.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        kernel: tuple[int, int],
        eps: float,
        inner: int | None,
        live_funnel: bool,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        inner = inner or out_channels
        funnel = live_funnel
        between = out_channels if funnel else inner  # the width of the convolutions themselves
        self.norm1 = GroupNorm(NORM_GROUPS, in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, between, kernel, padding=padding)
        # None once a fixed noise level made it part of conv1's bias (export)
        self.time_emb_proj: nn.Linear | None = nn.Linear(embedding_dim, between)
        # a narrowed width need not be a multiple of 32
        self.norm2 = GroupNorm(math.gcd(NORM_GROUPS, inner), inner, eps=eps)
        self.conv2 = nn.Conv2d(between, out_channels, kernel, padding=padding)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        self.funnel_in = nn.Conv2d(out_channels, inner, 1, bias=False) if funnel else None
        self.funnel_out = nn.Conv2d(inner, out_channels, 1, bias=False) if funnel else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """`embedding` (N, E) holds SiLU of the time embedding; N may be 1 for any batch."""
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None:
            h = h + self.time_emb_proj(embedding)[:, :, None, None]
        if self.funnel_in is not None:
            h = self.funnel_in(h)
        h = F.silu(self.norm2(h))
        if self.funnel_out is not None:
            h = self.funnel_out(h)
        h = self.conv2(h)
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class TimeMixer(nn.Module):
    """The learned blend `a x_s + (1 - a) x_t`, a = sigmoid(mix_factor), with an optional gate on the temporal residual.

    A temporal part is residual, `x_t = x_s + r`, so the blend is `x_s + (1 - a) r` and a gate of 0 on r removes the
    block exactly. The gate is set from outside for one training step (see `mobilevd/transforms/temporal_pruning.py`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([0.5]))
        self.gate: Tensor | None = None
        self.folded = False  # the factor 1 - a is part of the temporal part's last layer already (export)

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        if self.folded:
            return temporal
        alpha = torch.sigmoid(self.mix_factor).to(spatial.dtype)
        if self.gate is not None:
            return spatial + self.gate.to(spatial.dtype) * (1 - alpha) * (temporal - spatial)
        return alpha * spatial + (1 - alpha) * temporal


class SpatioTemporalResBlock(nn.Module):
    """Spatial residual part, then the temporal one blended in: frames (B*T, C, H, W) -> (B*T, C', H, W)."""

    def __init__(
        self, name: str, in_channels: int, out_channels: int, embedding_dim: int, eps: float, arch: Architecture
    ) -> None:
        super().__init__()

        def part(part_name: str, channels: int, kernel: tuple[int, int]) -> ResidualPart:
            inner = arch.width(f"{name}.{part_name}", "conv")
            live = arch.live_funnels and inner is not None
            return ResidualPart(channels, out_channels, embedding_dim, kernel, eps, inner, live)

        self.spatial_res_block = part("spatial_res_block", in_channels, (3, 3))
        self.temporal_res_block = self.time_mixer = None
        if arch.has_temporal(name):
            self.temporal_res_block = part("temporal_res_block", out_channels, (3, 1))
            self.time_mixer = TimeMixer()

    def forward(self, x: Tensor, embedding: Tensor, num_frames: int) -> Tensor:
        x = self.spatial_res_block(x, repeat_per(embedding, num_frames))  # (B*T, C, H, W)
        if self.temporal_res_block is None or self.time_mixer is None:
            return x
        frames, channels, height, width = x.shape
        batch = frames // num_frames
        clip = x.reshape(batch, num_frames, channels, height * width).transpose(1, 2)  # (B, C, T, H*W)
        clip = self.time_mixer(clip, self.temporal_res_block(clip, embedding))
        return clip.transpose(1, 2).reshape(frames, channels, height, width)
