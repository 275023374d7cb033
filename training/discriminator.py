"""The discriminator of one-step finetuning: a frozen UNet encoder with trained spatial and temporal heads (SF-V)."""

from __future__ import annotations

import math
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.diffusion.preconditioning import Conditions, network_inputs
from mobilevd.model.backbone import Backbone

MAP_CHANNELS = 64  # width in which a head compares features with the condition (StyleGAN-T and ADD have 64)
SPATIAL, TEMPORAL = (3, 3), (3, 1)


class FrozenEncoder(nn.Module):
    """A backbone's encoder, never trained: noisy latents to a feature map per level.

    Gradients pass through it to the generator; its own weights have none.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.encoder()
        cast(nn.Module, self.backbone).requires_grad_(False).eval()
        self.channels = backbone.encoder_channels

    def forward(self, x: Tensor, sigma: Tensor, conditions: Conditions) -> list[Tensor]:
        """x (B, T, 4, h, w) at noise levels sigma (B,) -> features (B*T, C_i, h_i, w_i), finest first."""
        return self.backbone.encoder_features(*network_inputs(x, sigma, conditions))


class HeadBlock(nn.Module):
    """A residual convolution."""

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(MAP_CHANNELS, MAP_CHANNELS, kernel, padding=padding)
        self.norm = nn.GroupNorm(16, MAP_CHANNELS)

    def forward(self, h: Tensor) -> Tensor:
        return h + F.leaky_relu(self.norm(self.conv(h)), 0.2)


class Head(nn.Module):
    """A small projection-conditioned classifier of feature maps, convolving `depth` times over space or over time.

    (N, C, *, *) features and a condition (B, D), N a multiple of B -> logits (N, positions).
    """

    def __init__(self, channels: int, condition_dim: int, kernel: tuple[int, int], depth: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, MAP_CHANNELS, 1)
        self.norm_in = nn.GroupNorm(16, MAP_CHANNELS)
        self.blocks = nn.Sequential(*(HeadBlock(kernel) for _ in range(depth)))
        self.logit = nn.Conv2d(MAP_CHANNELS, 1, 1)
        self.compare = nn.Conv2d(MAP_CHANNELS, MAP_CHANNELS, 1)
        self.map_condition = nn.Linear(condition_dim, MAP_CHANNELS)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        h = self.blocks(F.leaky_relu(self.norm_in(self.conv_in(features)), 0.2))
        mapped = self.map_condition(condition).repeat_interleave(h.shape[0] // condition.shape[0], dim=0)
        projection = (self.compare(h) * mapped[:, :, None, None]).sum(1) / math.sqrt(MAP_CHANNELS)
        return (self.logit(h)[:, 0] + projection).flatten(1)


class DiscriminatorHeads(nn.Module):
    """A spatial head on (B*T, C, h, w) and a temporal head on (B, C, T, h*w) for every feature map.

    Both kinds are needed: SF-V reports FVD 181 with both, 515 with spatial and 539 with temporal heads alone.
    """

    def __init__(self, channels: list[int], condition_dim: int, depth: int = 1) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(Head(c, condition_dim, SPATIAL, depth) for c in channels)
        self.temporal = nn.ModuleList(Head(c, condition_dim, TEMPORAL, depth) for c in channels)

    def forward(self, features: list[Tensor], conditions: Conditions) -> list[Tensor]:
        """Logits of all heads, each (B, positions)."""
        condition = conditions.image_embedding[:, 0]
        batch = condition.shape[0]
        logits = []
        for feature, spatial, temporal in zip(features, self.spatial, self.temporal, strict=True):
            frames, channels, height, width = feature.shape
            clip = feature.reshape(batch, frames // batch, channels, height * width).transpose(1, 2)
            logits.append(spatial(feature, condition).reshape(batch, -1))
            logits.append(temporal(clip, condition).reshape(batch, -1))
        return logits
