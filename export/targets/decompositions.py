"""Alternative forms of PyTorch operators, as decomposition tables for `ExportedProgram.run_decompositions`.

Each computes the same with operators that a backend supports; unlike `mobilevd/model/layers/ops.py` they apply to any
exported graph and leave the model alone. A function returns NotImplemented if the operator is right as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilevd.model.layers.ops import ScaledDotProduct

Table = dict[torch._ops.OperatorBase, Callable[..., Any]]
aten = torch.ops.aten


def _attention_without_scale(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scale the queries, so that attention has its default scale, the only one that Core ML's fused operator has."""
    if scale is None or enable_gqa:
        return NotImplemented
    q = q * (scale * math.sqrt(q.shape[-1]))
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)


def _attention_by_products(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as two batched products and a softmax, without PyTorch's guard against fully masked rows."""
    if mask is not None or is_causal or enable_gqa or q.dim() != 4:
        return NotImplemented
    attend = ScaledDotProduct(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    attend.phone_form = True
    return attend(q, k, v)


def _convolution_of_stacked_frames(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Tensor:
    """A convolution of T frames as one of a single tall image: (T, C, H, W) -> (1, C, T*(H + gap), W) and back.

    Between two frames lie the rows of zeros that each would be padded with, so none sees its neighbour; rows of the output
    that are centred on the gap are cut off.
    """
    frames, channels, height, width = x.shape
    if frames == 1:
        return NotImplemented
    step, pad, reach = stride[0], padding[0], dilation[0] * (weight.shape[2] - 1)
    rows = (height + 2 * pad - reach - 1) // step + 1  # rows of a frame's output
    # the next frame begins below the zeros that this one sees, and on a multiple of the stride
    block = max(height + pad, (rows - 1) * step + reach + 1 - pad, rows * step)
    block = math.ceil(block / step) * step
    tall = F.pad(x.permute(1, 0, 2, 3), (0, 0, 0, block - height))  # (C, T, block, W)
    tall = tall.reshape(1, channels, frames * block, width)
    y = F.conv2d(tall, weight, bias, stride, padding, dilation, groups)[0]
    per_frame = block // step
    if (missing := frames * per_frame - y.shape[1]) > 0:
        y = F.pad(y, (0, 0, 0, missing))  # rows of the last frame's gap
    y = y[:, : frames * per_frame].reshape(y.shape[0], frames, per_frame, y.shape[2])
    return y[:, :, :rows].permute(1, 0, 2, 3)


def _group_norm_with_affine(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Fill in ones and zeros where the affine part was folded into the layer behind."""
    if weight is not None and bias is not None:
        return NotImplemented
    return F.group_norm(x, groups, *_affine(x, [x.shape[1]], weight, bias), eps)


def _layer_norm_with_affine(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """Fill in ones and zeros where the affine part was folded into the layer behind."""
    if weight is not None and bias is not None:
        return NotImplemented
    return F.layer_norm(x, list(shape), *_affine(x, shape, weight, bias), eps)


def _affine(x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    return (
        torch.ones(shape, dtype=x.dtype) if weight is None else weight,
        torch.zeros(shape, dtype=x.dtype) if bias is None else bias,
    )


FOR_COREML: Table = {aten.scaled_dot_product_attention.default: _attention_without_scale}

WITH_AFFINE: Table = {
    aten.group_norm.default: _group_norm_with_affine,
    aten.layer_norm.default: _layer_norm_with_affine,
}
"""Forms for backends that want weights for every norm: a program without is lowered, but the device refuses it."""

FOR_VULKAN: Table = {
    **WITH_AFFINE,
    # PyTorch's decomposition of attention leaves mul.Scalar and any.dim, which the partitioner does not take
    aten.scaled_dot_product_attention.default: _attention_by_products,
    # Vulkan's convolution takes batch 1 only
    aten.conv2d.default: _convolution_of_stacked_frames,
}
