"""The UNet's stages: down, mid and up blocks of residual blocks and transformers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobilevd.model.layers.architecture import Architecture
from mobilevd.model.layers.ops import NearestUpsample, checkpointed
from mobilevd.model.layers.resnet import SpatioTemporalResBlock
from mobilevd.model.layers.transformer import SpatioTemporalTransformer


@dataclass(frozen=True)
class BlockSpec:
    """Sizes of one stage. `heads` None means no transformer in it."""

    num_layers: int
    channels: int
    embedding_dim: int
    context_dim: int
    heads: int | None
    transformer_layers: int


@dataclass
class Conditioning:
    """The inputs of every layer: embedding (B, E), SiLU already applied; context (B, 1, D); frame numbers (T,)."""

    embedding: Tensor
    context: Tensor
    frame_index: Tensor

    @property
    def num_frames(self) -> int:
        return self.frame_index.shape[0]


class Resample(nn.Module):
    """Halves height and width (a strided convolution), or enlarges them (nearest neighbour, then a convolution)."""

    def __init__(self, channels: int, up: bool, up_factor: int = 2) -> None:
        super().__init__()
        self.upsample = NearestUpsample(up_factor) if up else None
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.upsample is None else self.upsample(x))


class Stage(nn.Module):
    """Base of the three kinds of stage: residual blocks, each followed by a transformer where the stage has them."""

    def __init__(self) -> None:
        super().__init__()
        self.gradient_checkpointing = False

    def _transformers(self, name: str, spec: BlockSpec, count: int, arch: Architecture) -> nn.ModuleList | None:
        if spec.heads is None:
            return None
        heads = spec.heads
        return nn.ModuleList(
            SpatioTemporalTransformer(
                f"{name}.attentions.{i}", spec.channels, heads, spec.transformer_layers, spec.context_dim, arch
            )
            for i in range(count)
        )

    def _layer(self, i: int, x: Tensor, cond: Conditioning) -> Tensor:
        assert isinstance(self.resnets, nn.ModuleList)
        x = checkpointed(self.gradient_checkpointing, self.resnets[i], x, cond.embedding, cond.num_frames)
        if isinstance(self.attentions, nn.ModuleList):
            x = self.attentions[i](x, cond.context, cond.frame_index)
        return x


class DownBlock(Stage):
    """(B*T, C_in, H, W) -> (B*T, C, H/2, W/2) and the skips of every layer; the last stage keeps the size."""

    def __init__(self, name: str, in_channels: int, spec: BlockSpec, downsample: bool, arch: Architecture) -> None:
        super().__init__()
        eps = 1e-5 if spec.heads is None else 1e-6  # SVD's own inconsistency; the checkpoint depends on it
        self.resnets = nn.ModuleList(
            SpatioTemporalResBlock(
                f"{name}.resnets.{i}",
                in_channels if i == 0 else spec.channels,
                spec.channels,
                spec.embedding_dim,
                eps,
                arch,
            )
            for i in range(spec.num_layers)
        )
        self.attentions = self._transformers(name, spec, spec.num_layers, arch)
        self.downsamplers = nn.ModuleList([Resample(spec.channels, up=False)]) if downsample else None

    def forward(self, x: Tensor, cond: Conditioning) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for i in range(len(self.resnets)):
            x = self._layer(i, x, cond)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class MidBlock(Stage):
    """Residual block, transformer, residual block at the lowest resolution: (B*T, C, H, W) -> the same."""

    def __init__(self, name: str, spec: BlockSpec, arch: Architecture) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            SpatioTemporalResBlock(f"{name}.resnets.{i}", spec.channels, spec.channels, spec.embedding_dim, 1e-5, arch)
            for i in range(2)
        )
        self.attentions = self._transformers(name, spec, 1, arch)

    def forward(self, x: Tensor, cond: Conditioning) -> Tensor:
        x = self._layer(0, x, cond)
        return checkpointed(self.gradient_checkpointing, self.resnets[1], x, cond.embedding, cond.num_frames)


class UpBlock(Stage):
    """(B*T, C_prev, H, W) and the skips of its level -> (B*T, C, fH, fW), f = `up_factor`; the last keeps the size."""

    def __init__(
        self,
        name: str,
        previous_channels: int,
        skip_channels: list[int],
        spec: BlockSpec,
        upsample: bool,
        arch: Architecture,
        up_factor: int = 2,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            SpatioTemporalResBlock(
                f"{name}.resnets.{i}",
                (previous_channels if i == 0 else spec.channels) + skip,
                spec.channels,
                spec.embedding_dim,
                1e-6,
                arch,
            )
            for i, skip in enumerate(skip_channels)
        )
        self.attentions = self._transformers(name, spec, len(skip_channels), arch)
        self.upsamplers = nn.ModuleList([Resample(spec.channels, True, up_factor)]) if upsample else None

    def forward(self, x: Tensor, skips: list[Tensor], cond: Conditioning) -> Tensor:
        for i in range(len(self.resnets)):
            x = self._layer(i, torch.cat([x, skips.pop()], dim=1), cond)
        return x if self.upsamplers is None else self.upsamplers[0](x)
