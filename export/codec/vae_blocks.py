"""The blocks of SVD's VAE: residual blocks per frame and across frames, and attention over the pixels of a frame."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.codec.layers import convolution, group_norm, linear, scaled
from mobilevd.model.layers.ops import ScaledDotProduct


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice: (N, C, *, *) -> (N, C', *, *), on frames or, over time, on (1, C, T, H*W).

    Args:
        source: diffusers' `ResnetBlock2D` or `TemporalResnetBlock` without a time embedding.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        if source.time_emb_proj is not None or getattr(source, "output_scale_factor", 1.0) != 1.0:
            raise ValueError("a residual block of a VAE has neither a time embedding nor a scaled output")
        self.norm1, self.conv1 = group_norm(source.norm1), convolution(source.conv1)
        self.norm2, self.conv2 = group_norm(source.norm2), convolution(source.conv2)
        self.conv_shortcut = None if source.conv_shortcut is None else convolution(source.conv_shortcut)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class SpatioTemporalBlock(nn.Module):
    """A block per frame, then the residual across all frames of the chunk: (T, C, H, W) -> (T, C', H, W).

    The learned blend `(1 - s) x_s + s x_t` with `x_t = x_s + r` is `x_s + s r`, so s is folded into r's last
    convolution. The temporal decoder's s is sigmoid(mix_factor), the reverse of the UNet's convention.

    Args:
        source: diffusers' `SpatioTemporalResBlock` of the temporal decoder.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        mixer = source.time_mixer
        if mixer.merge_strategy != "learned" or not mixer.switch_spatial_to_temporal_mix:
            raise ValueError("the blend is not that of SVD's temporal decoder (learned, switched)")
        self.spatial_res_block = ResidualBlock(source.spatial_res_block)
        self.temporal_res_block = ResidualBlock(source.temporal_res_block)
        share = torch.sigmoid(mixer.mix_factor.detach().double())
        self.temporal_res_block.conv2 = scaled(self.temporal_res_block.conv2, share)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spatial_res_block(x)
        return over_time(self.temporal_res_block, x)


def over_time(module: nn.Module, frames: Tensor) -> Tensor:
    """Call `module` with frames (T, C, H, W) seen as one clip (1, C, T, H*W), and return frames."""
    count, channels, height, width = frames.shape
    clip = frames.reshape(1, count, channels, height * width).transpose(1, 2)  # (1, C, T, H*W)
    clip = module(clip)
    return clip.transpose(1, 2).reshape(count, -1, height, width)


class PixelAttention(nn.Module):
    """Self-attention over the pixels of each frame, with its norm and residual: (N, C, H, W) -> (N, C, H, W).

    Args:
        source: diffusers' `Attention` of a VAE's middle block.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        if not source.residual_connection or source.rescale_output_factor != 1 or source.spatial_norm is not None:
            raise ValueError("the attention is not that of a VAE's middle block")
        self.heads = source.heads
        self.group_norm = group_norm(source.group_norm)
        self.to_q, self.to_k, self.to_v = linear(source.to_q), linear(source.to_k), linear(source.to_v)
        self.to_out = linear(source.to_out[0])
        self.attend = ScaledDotProduct(1 / math.sqrt(self.to_q.out_features // self.heads))

    def _split(self, tokens: Tensor) -> Tensor:
        n, count, inner = tokens.shape
        return tokens.reshape(n, count, self.heads, inner // self.heads).transpose(1, 2)  # (N, heads, S, d)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        tokens = self.group_norm(x).reshape(n, channels, height * width).transpose(1, 2)  # (N, S, C)
        q, k, v = self._split(self.to_q(tokens)), self._split(self.to_k(tokens)), self._split(self.to_v(tokens))
        out = self.attend(q, k, v).transpose(1, 2).reshape(n, height * width, -1)
        return x + self.to_out(out).transpose(1, 2).reshape(n, channels, height, width)
