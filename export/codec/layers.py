"""Layers of our own around the weights of diffusers' and transformers' modules.

The weights are shared, not copied: CLIP's image encoder alone is 2.5 GB. Nothing here changes them.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mobilevd.model.layers.ops import GroupNorm, LayerNorm

Pair = tuple[int, int]


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that shares the tensor's memory and takes no gradient."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


def _with_weights(made: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    made.register_parameter("weight", frozen(weight))
    made.register_parameter("bias", None if bias is None else frozen(bias))
    return made


def convolution_of(weight: Tensor, bias: Tensor | None, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> nn.Conv2d:
    """A convolution with this weight (out, in, kh, kw) and bias (out,)."""
    outputs, inputs, *kernel = weight.shape
    made = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), stride, padding, device="meta")
    return cast(nn.Conv2d, _with_weights(made, weight, bias))


def convolution(source: nn.Conv2d | nn.Conv3d) -> nn.Conv2d:
    """The same convolution; one over (T, H, W) with a (k, 1, 1) kernel becomes one over (T, H*W) with (k, 1)."""
    weight = source.weight
    if isinstance(source, nn.Conv3d):
        if tuple(source.kernel_size[1:]) != (1, 1):
            raise ValueError(
                f"a kernel of {source.kernel_size} over (T, H, W) also mixes pixels; only (k, 1, 1) does not"
            )
        weight = weight.squeeze(-1)
    return convolution_of(weight, source.bias, cast(Pair, source.stride[:2]), cast(Pair, source.padding[:2]))


def linear(source: nn.Linear) -> nn.Linear:
    made = nn.Linear(source.in_features, source.out_features, device="meta")
    return cast(nn.Linear, _with_weights(made, source.weight, source.bias))


def group_norm(source: nn.GroupNorm) -> GroupNorm:
    made = GroupNorm(source.num_groups, source.num_channels, source.eps, device="meta")
    return cast(GroupNorm, _with_weights(made, source.weight, source.bias))


def layer_norm(source: nn.LayerNorm) -> LayerNorm:
    made = LayerNorm(source.normalized_shape[0], source.eps, device="meta")
    return cast(LayerNorm, _with_weights(made, source.weight, source.bias))


def scaled(source: nn.Conv2d, factor: Tensor) -> nn.Conv2d:
    """A copy of `source` whose output is multiplied by the number `factor`; in double precision, rounded once."""
    weight = (source.weight.double() * factor.double()).to(source.weight.dtype)
    bias = None if source.bias is None else (source.bias.double() * factor.double()).to(source.bias.dtype)
    return convolution_of(weight, bias, cast(Pair, source.stride), cast(Pair, source.padding))


class SeparableMap(nn.Module):
    """A linear map of pictures, separable into rows and columns: (1, C, H, W) -> (1, C, H', W') as `R x S^T`.

    Args:
        rows: R (H', H).
        columns: S (W', W).
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows.float())
        self.register_buffer("columns", columns.float())

    def forward(self, x: Tensor) -> Tensor:
        narrow = nn.functional.linear(x, self.columns)  # (1, C, H, W')
        return nn.functional.linear(narrow.transpose(2, 3), self.rows).transpose(2, 3)


def unit_pictures(size: int) -> Tensor:
    """Identity pictures (1, 1, size, size): the image of one under a map of rows is that map's matrix.

    They are float32, like the pictures: PyTorch's resize rounds its coordinates to the type of what it resizes.
    """
    return torch.eye(size)[None, None]
