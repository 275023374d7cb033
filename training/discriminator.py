"""The discriminator of one-step finetuning: a frozen UNet encoder with trained spatial and temporal heads (SF-V)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.diffusion.preconditioning import Conditions, c_noise, network_inputs
from mobilevd.model.backbone import Backbone
from mobilevd.model.layers.embeddings import SinusoidalEmbedding
from training.frozen import frozen, in_precision_of

MAP_CHANNELS = 64  # width in which a head compares features with the condition (StyleGAN-T and ADD have 64)
EMBEDDING = 64  # width of the sinusoids of noise level and frame number
SPATIAL, TEMPORAL = (3, 3), (3, 1)


class FrozenEncoder(nn.Module):
    """A backbone's encoder, never trained: noisy latents to a feature map per level.

    Gradients pass through it to the generator; its own weights have none.
    """

    def __init__(self, backbone: Backbone, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = frozen(backbone.encoder(), dtype)
        self.channels = backbone.encoder_channels

    def forward(self, x: Tensor, sigma: Tensor, conditions: Conditions) -> list[Tensor]:
        """x (B, T, 4, h, w) at noise levels sigma (B,) -> features (B*T, C_i, h_i, w_i), finest first."""
        with in_precision_of(self):
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

    (N, C, *, *) features and a condition (M, D) per map of M maps, N a multiple of M, with a further vector per row or
    per map where there is one -> logits (N, positions).
    """

    def __init__(self, channels: int, condition_dim: int | None, kernel: tuple[int, int], depth: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, MAP_CHANNELS, 1)
        self.norm_in = nn.GroupNorm(16, MAP_CHANNELS)
        self.blocks = nn.Sequential(*(HeadBlock(kernel) for _ in range(depth)))
        self.logit = nn.Conv2d(MAP_CHANNELS, 1, 1)
        self.compare = nn.Conv2d(MAP_CHANNELS, MAP_CHANNELS, 1)
        self.map_condition = nn.Linear(condition_dim, MAP_CHANNELS) if condition_dim is not None else None

    def forward(self, features: Tensor, condition: Tensor, others: Tensor | None = None) -> Tensor:
        """`others` (N, MAP_CHANNELS, rows or 1, 1) is added to the mapped condition."""
        h = self.blocks(F.leaky_relu(self.norm_in(self.conv_in(features)), 0.2))
        mapped: Tensor | float = 0.0
        if self.map_condition is not None:
            each = self.map_condition(condition)
            mapped = each.repeat_interleave(h.shape[0] // condition.shape[0], dim=0)[:, :, None, None]
        if others is not None:
            mapped = mapped + others
        projection = (self.compare(h) * mapped).sum(1) / math.sqrt(MAP_CHANNELS)
        return (self.logit(h)[:, 0] + projection).flatten(1)


class DiscriminatorHeads(nn.Module):
    """A spatial head on (B*T, C, h, w) and a temporal head on (B, C, T, h*w) for every feature map.

    Both kinds are needed: SF-V reports FVD 181 with both, 515 with spatial and 539 with temporal heads alone. Its heads are
    conditioned on the image, the noise level s' and the frame's number (section 3.3, figure 3).
    """

    def __init__(
        self, channels: list[int], condition_dim: int, depth: int = 1, conditions: Sequence[str] = ("image",)
    ) -> None:
        super().__init__()
        image_dim = condition_dim if "image" in conditions else None
        self.spatial = nn.ModuleList(Head(c, image_dim, SPATIAL, depth) for c in channels)
        self.temporal = nn.ModuleList(Head(c, image_dim, TEMPORAL, depth) for c in channels)
        self.embed = SinusoidalEmbedding(EMBEDDING)
        self.map_noise = nn.Linear(EMBEDDING, MAP_CHANNELS) if "noise" in conditions else None
        self.map_frame = nn.Linear(EMBEDDING, MAP_CHANNELS) if "frame" in conditions else None
        self.names = [f"{kind}.{i}" for i in range(len(channels)) for kind in ("spatial", "temporal")]
        """Names of the heads, in the order of their logits."""

    def forward(self, features: list[Tensor], conditions: Conditions, sigma: Tensor) -> list[Tensor]:
        """Logits of all heads, each (B, positions), for features of clips at noise levels sigma (B,)."""
        condition = conditions.image_embedding[:, 0]
        batch = condition.shape[0]
        per_frame = self._per_frame(features[0].shape[0] // batch, sigma)  # (B, T, MAP_CHANNELS)
        spatial_others, temporal_others = None, None
        if per_frame is not None:
            spatial_others = per_frame.flatten(0, 1)[:, :, None, None]
            temporal_others = per_frame.transpose(1, 2)[..., None]
        logits = []
        for feature, spatial, temporal in zip(features, self.spatial, self.temporal, strict=True):
            frames, channels, height, width = feature.shape
            clip = feature.reshape(batch, frames // batch, channels, height * width).transpose(1, 2)
            logits.append(spatial(feature, condition, spatial_others).reshape(batch, -1))
            logits.append(temporal(clip, condition, temporal_others).reshape(batch, -1))
        return logits

    def _per_frame(self, frames: int, sigma: Tensor) -> Tensor | None:
        """The mapped noise level and frame number of every frame; None without either."""
        mapped = None
        if self.map_noise is not None:
            noise = self.map_noise(self.embed(c_noise(sigma.float())))  # (B, MAP_CHANNELS)
            mapped = noise[:, None].expand(-1, frames, -1)
        if self.map_frame is not None:
            number = self.map_frame(self.embed(torch.arange(frames, device=sigma.device).float()))
            number = number[None].expand(sigma.shape[0], -1, -1)
            mapped = number if mapped is None else mapped + number
        return mapped
