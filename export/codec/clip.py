"""SVD's image encoder as one program: from a picture of any fixed size, resized inside, to CLIP's embedding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from torch import Tensor, nn

from export.codec.layers import Pair, SeparableMap, convolution_of, frozen, layer_norm, linear, unit_pictures
from mobilevd.errors import UserError
from mobilevd.model.layers.ops import ScaledDotProduct


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), the activation of the first CLIP models."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


def antialiased_resize(height: int, width: int, size: int) -> SeparableMap:
    """diffusers' blur and bicubic resize of (height, width) pictures to (size, size): linear, so two matrices.

    A map that keeps the length of an axis does not blur along it, so a unit picture of the rows gives their matrix.
    """
    rows = _resize_with_antialiasing(unit_pictures(height), (size, height))[0, 0]  # (size, height)
    columns = _resize_with_antialiasing(unit_pictures(width), (size, width))[0, 0]
    return SeparableMap(rows, columns)


class ClipLayer(nn.Module):
    """A transformer layer: tokens (1, S, C) -> (1, S, C).

    Args:
        source: transformers' `CLIPEncoderLayer`.
        activation: the activation of the feed-forward network.
    """

    def __init__(self, source: Any, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        attention = source.self_attn
        self.heads, self.activation = attention.num_heads, activation
        self.layer_norm1, self.layer_norm2 = layer_norm(source.layer_norm1), layer_norm(source.layer_norm2)
        self.q_proj, self.k_proj = linear(attention.q_proj), linear(attention.k_proj)
        self.v_proj, self.out_proj = linear(attention.v_proj), linear(attention.out_proj)
        self.attend = ScaledDotProduct(1 / math.sqrt(self.q_proj.out_features // self.heads))
        self.fc1, self.fc2 = linear(source.mlp.fc1), linear(source.mlp.fc2)

    def _split(self, tokens: Tensor) -> Tensor:
        n, count, inner = tokens.shape
        return tokens.reshape(n, count, self.heads, inner // self.heads).transpose(1, 2)  # (1, heads, S, d)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.layer_norm1(x)
        q, k, v = (self._split(project(tokens)) for project in (self.q_proj, self.k_proj, self.v_proj))
        x = x + self.out_proj(self.attend(q, k, v).transpose(1, 2).reshape(x.shape))
        return x + self.fc2(self.activation(self.fc1(self.layer_norm2(x))))


class ClipImageEncoder(nn.Module):
    """Picture (1, 3, H, W) in [-1, 1] to its embedding (1, 1, D).

    Pixels p in [-1, 1] become ((p + 1) / 2 - mean) / std before the patches are projected; patches do not overlap and
    are not padded, so mean and std are folded into the projection.

    Args:
        source: transformers' `CLIPVisionModelWithProjection`.
        mean, std: (1, 3, 1, 1) statistics of pixels in [0, 1], from the feature extractor.
        height, width: size of the pictures.

    Raises:
        UserError: an activation that is not one of CLIP's.
    """

    class_token: Tensor
    positions: Tensor

    def __init__(self, source: Any, mean: Tensor, std: Tensor, height: int, width: int) -> None:
        super().__init__()
        config, model = source.config, source.vision_model
        if config.hidden_act not in ACTIVATIONS:
            raise UserError(
                f"export of the image encoder: its activation is {config.hidden_act!r}; known are {', '.join(ACTIVATIONS)}"
            )
        self.resize = antialiased_resize(height, width, config.image_size)
        self.patch_embedding = _normalized_patches(model.embeddings.patch_embedding, mean, std)
        positions = model.embeddings.position_embedding.weight.detach()[None]  # (1, 1 + patches, C)
        self.class_token = frozen(model.embeddings.class_embedding + positions[:, :1])  # (1, 1, C)
        self.positions = frozen(positions[:, 1:])
        self.pre_layer_norm = layer_norm(model.pre_layrnorm)
        activation = ACTIVATIONS[config.hidden_act]
        self.layers = nn.Sequential(*(ClipLayer(layer, activation) for layer in model.encoder.layers))
        self.post_layer_norm = layer_norm(model.post_layernorm)
        self.visual_projection = linear(source.visual_projection)

    def forward(self, picture: Tensor) -> Tensor:
        patches = self.patch_embedding(self.resize(picture))  # (1, C, g, g)
        tokens = patches.flatten(2).transpose(1, 2) + self.positions  # (1, g*g, C)
        tokens = self.layers(self.pre_layer_norm(torch.cat([self.class_token, tokens], dim=1)))
        return self.visual_projection(self.post_layer_norm(tokens[:, :1]))  # (1, 1, D)


def _normalized_patches(source: nn.Conv2d, mean: Tensor, std: Tensor) -> nn.Conv2d:
    """The projection of patches with the pixels' normalization folded in; in double precision, rounded once."""
    mean, std = mean.double().cpu(), std.double().cpu()
    weight = source.weight.detach().double()
    bias = (weight * ((0.5 - mean) / std)).sum((1, 2, 3))
    if source.bias is not None:
        bias = bias + source.bias.detach().double()
    dtype = source.weight.dtype
    return convolution_of((weight * (0.5 / std)).to(dtype), bias.to(dtype), cast(Pair, tuple(source.stride)))
