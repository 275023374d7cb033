"""The spatio-temporal UNet: Stable Video Diffusion's, and every compressed form of it.

The names of modules and of config keys are those of diffusers' `UNetSpatioTemporalConditionModel`, so that an SVD
checkpoint loads strictly. Further config keys record what compression changed, so that a folder alone rebuilds its
model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from mobilevd.errors import UserError
from mobilevd.model import checkpoint
from mobilevd.model.anatomy import Block, blocks_of
from mobilevd.model.backbone import Backbone
from mobilevd.model.layers.architecture import Architecture
from mobilevd.model.layers.blocks import BlockSpec, Conditioning, DownBlock, MidBlock, Stage, UpBlock
from mobilevd.model.layers.embeddings import EmbeddingMLP, SinusoidalEmbedding
from mobilevd.model.layers.multiscale import OPERATORS, SpatialScale, TemporalScale
from mobilevd.model.layers.ops import GroupNorm
from mobilevd.model.layers.resnet import NORM_GROUPS, TimeMixer
from mobilevd.model.layers.transformer import AttentionBlock, SpatioTemporalTransformer

CROSS_DOWN, PLAIN_DOWN = "CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"
SVD_CHANNELS = (320, 640, 1280, 1280)


def size_multiple(config: Mapping[str, Any]) -> int:
    """The number that the latents' height and width must be divisible by in this config, for every halving."""
    levels = len(config.get("block_out_channels", SVD_CHANNELS))
    return 2 ** (levels - 1) * int(config.get("spatial_scale", 1))


def _per_level(value: int | Sequence[int], levels: int, name: str) -> list[int]:
    values = [value] * levels if isinstance(value, int) else list(value)
    if len(values) != levels:
        raise UserError(f"config: {name} has {len(values)} entries for {levels} levels of block_out_channels")
    return values


class SpatioTemporalUNet(ModelMixin, ConfigMixin, Backbone):
    """SVD's UNet in tensors of rank <= 4, compressed or not.

    Args (as in diffusers; defaults are SVD's):
        sample_size, in_channels, out_channels, down_block_types, up_block_types, block_out_channels,
        addition_time_embed_dim, projection_class_embeddings_input_dim, layers_per_block, cross_attention_dim,
        transformer_layers_per_block, num_attention_heads, num_frames.
    Args (compression; defaults change nothing):
        cross_attention: "full" or "projection" (exact for one context token).
        temporal_scale, spatial_scale: factor by which frames, or height and width, are reduced below level 0.
        scale_operator: "average" or "stride", the reduction's operator.
        temporal_blocks: names of the blocks that keep their temporal part; None keeps all (`temporal_block_names`).
        inner_widths: see `mobilevd.model.layers.architecture.Architecture`.
        live_funnels: channel funnels are separate layers (finetuning), not merged.
        temporal_gates: a learned importance per temporal block is part of the model (during temporal pruning).
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: Sequence[str] = (CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN),
        up_block_types: Sequence[str] = (PLAIN_UP, CROSS_UP, CROSS_UP, CROSS_UP),
        block_out_channels: Sequence[int] = SVD_CHANNELS,
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | Sequence[int] = 2,
        cross_attention_dim: int | Sequence[int] = 1024,
        transformer_layers_per_block: int | Sequence[int] = 1,
        num_attention_heads: int | Sequence[int] = (5, 10, 20, 20),
        num_frames: int = 14,
        cross_attention: str = "full",
        temporal_scale: int = 1,
        spatial_scale: int = 1,
        scale_operator: str = "average",
        temporal_blocks: Sequence[str] | None = None,
        inner_widths: dict[str, int] | None = None,
        live_funnels: bool = False,
        temporal_gates: bool = False,
    ) -> None:
        super().__init__()
        channels, levels = list(block_out_channels), len(block_out_channels)
        layers = _per_level(layers_per_block, levels, "layers_per_block")
        heads = _per_level(num_attention_heads, levels, "num_attention_heads")
        context_dims = _per_level(cross_attention_dim, levels, "cross_attention_dim")
        depths = _per_level(transformer_layers_per_block, levels, "transformer_layers_per_block")
        self._check(channels, heads, down_block_types, up_block_types, cross_attention, scale_operator)
        if spatial_scale > 1 and levels == 1:
            raise UserError("config: spatial_scale needs at least two levels (block_out_channels), there is one")
        arch = Architecture(
            None if temporal_blocks is None else frozenset(temporal_blocks),
            cross_attention,
            dict(inner_widths or {}),
            live_funnels,
        )
        embedding_dim = 4 * channels[0]

        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.time_proj = SinusoidalEmbedding(channels[0])
        self.time_embedding = EmbeddingMLP(channels[0], embedding_dim)
        self.add_time_proj = SinusoidalEmbedding(addition_time_embed_dim)
        self.add_embedding = EmbeddingMLP(projection_class_embeddings_input_dim, embedding_dim)

        def spec(level: int, num_layers: int, with_attention: bool) -> BlockSpec:
            head_count = heads[level] if with_attention else None
            return BlockSpec(num_layers, channels[level], embedding_dim, context_dims[level], head_count, depths[level])

        self.down_blocks = nn.ModuleList()
        skip_channels = [channels[0]]
        for level, kind in enumerate(down_block_types):
            last = level == levels - 1
            before = channels[max(level - 1, 0)]
            block_spec = spec(level, layers[level], kind == CROSS_DOWN)
            self.down_blocks.append(DownBlock(f"down_blocks.{level}", before, block_spec, not last, arch))
            skip_channels += [channels[level]] * (layers[level] + (0 if last else 1))

        self.mid_block = MidBlock("mid_block", spec(levels - 1, 1, True), arch)

        self.up_blocks = nn.ModuleList()
        previous = channels[-1]
        for i, kind in enumerate(up_block_types):
            level = levels - 1 - i
            skips = [skip_channels.pop() for _ in range(layers[level] + 1)]
            block_spec = spec(level, layers[level] + 1, kind == CROSS_UP)
            # the upsampler before the last stage also restores what the spatial scale took away, so that its
            # convolution smooths the repeated pixels; restored behind it, the published 4.35 TFLOPs would be 4.05
            up_factor = 2 * spatial_scale if level == 1 else 2
            self.up_blocks.append(UpBlock(f"up_blocks.{i}", previous, skips, block_spec, level > 0, arch, up_factor))
            previous = channels[level]

        self.temporal_scaling = TemporalScale(temporal_scale, scale_operator) if temporal_scale > 1 else None
        self.spatial_scaling = SpatialScale(spatial_scale, scale_operator) if spatial_scale > 1 else None
        self.conv_norm_out = GroupNorm(NORM_GROUPS, channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(channels[0], out_channels, 3, padding=1)
        names = self.temporal_block_names()
        if temporal_blocks is not None and (unknown := set(temporal_blocks) - set(names)):
            raise UserError(f"config: temporal_blocks names {sorted(unknown)[0]!r}, which is no block of this UNet")
        self.temporal_importance = nn.Parameter(torch.ones(len(names))) if temporal_gates else None

    @staticmethod
    def _check(
        channels: list[int],
        heads: list[int],
        down: Sequence[str],
        up: Sequence[str],
        cross_attention: str,
        scale_operator: str,
    ) -> None:
        if not len(down) == len(up) == len(channels):
            raise UserError(
                f"config: {len(down)} down_block_types, {len(up)} up_block_types and {len(channels)} "
                "block_out_channels; the three must be as many"
            )
        for kinds, known in ((down, (CROSS_DOWN, PLAIN_DOWN)), (up, (CROSS_UP, PLAIN_UP))):
            for kind in kinds:
                if kind not in known:
                    raise UserError(f"config: unknown block type {kind!r}; known are {known[0]} and {known[1]}")
        for width, count in zip(channels, heads, strict=True):
            if width % NORM_GROUPS:
                raise UserError(f"config: {width} channels are not divisible into {NORM_GROUPS} normalization groups")
            if width % count:
                raise UserError(f"config: {width} channels are not divisible by {count} attention heads")
        if cross_attention not in ("full", "projection"):
            raise UserError(f"config: cross_attention is {cross_attention!r}; it must be 'full' or 'projection'")
        if scale_operator not in OPERATORS:
            raise UserError(f"config: scale_operator is {scale_operator!r}; it must be one of {OPERATORS}")

    # -- what the model is ------------------------------------------------------------------------------------------

    def blocks(self) -> list[Block]:
        return blocks_of(self, len(self.down_blocks))

    def time_mixers(self) -> dict[str, TimeMixer]:
        return {n: cast(TimeMixer, self.get_submodule(n).time_mixer) for n in self.temporal_block_names()}

    @property
    def size_multiple(self) -> int:
        return size_multiple(self.config)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Compute activations again in the backward pass instead of keeping them: less memory, about a third slower."""
        for module in self.modules():
            if isinstance(module, Stage | SpatioTemporalTransformer):
                module.gradient_checkpointing = enabled

    def set_training_form(self) -> None:
        """Compute the same function with less work than SVD's code.

        Cross-attention to one token does without the queries and keys, which have no part in it and keep gradients of
        zero. It is no default, because FLOPs are counted, as the paper does, on what SVD's code computes.
        """
        for module in self.modules():
            if isinstance(module, AttentionBlock):
                module.training_form = True

    # -- the forward pass -------------------------------------------------------------------------------------------

    def embed_time(self, timestep: Tensor, added_time_ids: Tensor) -> Tensor:
        """Noise level (B,) and micro-conditioning (B, 3) -> embedding (B, E), with SiLU applied for every layer."""
        dtype = self.conv_in.weight.dtype
        batch = added_time_ids.shape[0]
        time = self.time_embedding(self.time_proj(timestep.expand(batch)).to(dtype))
        added = self.add_time_proj(added_time_ids.flatten()).reshape(batch, -1).to(dtype)
        return F.silu(time + self.add_embedding(added))

    def denoise_frames(self, x: Tensor, embedding: Tensor, context: Tensor, num_frames: int) -> Tensor:
        """The rank-4 body: frames (B*T, C_in, H, W), embedding (B, E), context (B, 1, D) -> (B*T, C_out, H, W)."""
        full = Conditioning(embedding, context, torch.arange(num_frames, device=x.device))
        inner = full
        if self.temporal_scaling is not None:
            fewer = torch.arange(num_frames // self.temporal_scaling.factor, device=x.device)
            inner = Conditioning(embedding, context, fewer)

        x = self.conv_in(x)
        skips = [x]
        for level, block in enumerate(self.down_blocks):
            x, block_skips = block(x, full if level == 0 else inner)
            if level == 0 and self.temporal_scaling is not None:
                x = self.temporal_scaling.down(x)
            if level == 0 and self.spatial_scaling is not None:
                x = self.spatial_scaling.down(x)
            # the skip behind the first stage's downsampling belongs to the level below: it is reduced like it
            skips += block_skips if level > 0 or len(self.down_blocks) == 1 else [*block_skips[:-1], x]
        x = self.mid_block(x, inner)
        for i, block in enumerate(self.up_blocks):
            last = i == len(self.up_blocks) - 1
            if last and self.temporal_scaling is not None:
                x = self.temporal_scaling.up(x)
            count = len(cast(UpBlock, block).resnets)
            x, skips = block(x, skips[-count:], full if last else inner), skips[:-count]
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def forward(self, sample: Tensor, timestep: Tensor, image_embedding: Tensor, added_time_ids: Tensor) -> Tensor:
        """Run the network F.

        Args:
            sample: (B, T, C_in, H, W) noisy latents and conditioning latents side by side.
            timestep: (B,) or (1,) the noise level as the network sees it, c_noise = ln(sigma) / 4.
            image_embedding: (B, 1, D) the image token.
            added_time_ids: (B, 3) fps - 1, motion bucket, noise-augmentation strength.

        Returns:
            (B, T, C_out, H, W).

        Raises:
            UserError: height or width not divisible by `size_multiple`, or frames by the temporal scale.
        """
        batch, num_frames, _, height, width = sample.shape
        self.check_size(num_frames, height, width)
        embedding = self.embed_time(timestep, added_time_ids)
        out = self.denoise_frames(sample.flatten(0, 1), embedding, image_embedding, num_frames)
        return out.reshape(batch, num_frames, -1, height, width)

    # -- what a discriminator needs of it ---------------------------------------------------------------------------

    @property
    def encoder_channels(self) -> list[int]:
        return [int(channels) for channels in self.config["block_out_channels"]]

    def encoder(self) -> SpatioTemporalUNet:
        copied = copy.deepcopy(self)
        del copied.up_blocks, copied.mid_block
        return copied

    def encoder_features(
        self, sample: Tensor, timestep: Tensor, image_embedding: Tensor, added_time_ids: Tensor
    ) -> list[Tensor]:
        """One feature map per down block: its last layer's output, before the downsampling (finer).

        No frame is left out, whatever the temporal scale.
        """
        num_frames = sample.shape[1]
        embedding = self.embed_time(timestep, added_time_ids)
        cond = Conditioning(embedding, image_embedding, torch.arange(num_frames, device=sample.device))
        x = self.conv_in(sample.flatten(0, 1))
        features = []
        for block in self.down_blocks:
            x, skips = block(x, cond)
            features.append(skips[len(cast(DownBlock, block).resnets) - 1])
        return features

    # -- folders ----------------------------------------------------------------------------------------------------

    def derive(self, **changes: Any) -> SpatioTemporalUNet:
        config = {k: v for k, v in dict(self.config).items() if not k.startswith("_")}
        weight = self.conv_in.weight
        model = SpatioTemporalUNet(**{**config, **changes})
        # diffusers' own `to` warns about every change of dtype
        return cast(SpatioTemporalUNet, nn.Module.to(model, weight.device, weight.dtype))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> SpatioTemporalUNet:
        """Load a model folder of ours, strictly. UserError names the first tensor that is missing or differs."""
        return checkpoint.load_model_folder(cls, Path(pretrained_model_name_or_path), **kwargs)

    @classmethod
    def from_svd(cls, folder: str | Path, **kwargs: Any) -> SpatioTemporalUNet:
        """Load a diffusers `UNetSpatioTemporalConditionModel` folder (config.json, safetensors), strictly."""
        return checkpoint.load_model_folder(cls, Path(folder), **kwargs)

    def save_svd(self, folder: str | Path) -> None:
        """Write an uncompressed model as a diffusers `UNetSpatioTemporalConditionModel` folder."""
        checkpoint.save_svd_folder(self, Path(folder))
