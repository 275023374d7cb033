"""Constant folding for a fixed noise level: a copy of the UNet in the phone form, with all constants computed once.

Every step is mathematically exact. Values that follow from constants without any algebra (frame positions, blend
factors, reshaped weights) are left to constant propagation on the exported graph.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from mobilevd.model.layers.attention import GEGLU, Attention, FeedForward
from mobilevd.model.layers.ops import set_phone_form
from mobilevd.model.layers.resnet import ResidualPart, SpatioTemporalResBlock
from mobilevd.model.layers.transformer import AttentionBlock, SpatioTemporalTransformer, TemporalAttentionBlock
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.cross_attention import project_cross_attention


@torch.no_grad()
def fold_for_phone(unet: SpatioTemporalUNet, embedding: Tensor | None, consume: bool = False) -> SpatioTemporalUNet:
    """A copy of `unet` for one noise level, in the phone form; `unet` itself stays as it is.

    Args:
        unet: a finished model (no live funnels or gates).
        embedding: (1, E) output of `embed_time` for that noise level and one micro-conditioning. The copy gives the
            same numbers for it, and ignores the embedding it is called with. None: the embedding remains an input.
        consume: change `unet` instead of a copy, which saves half the memory; the caller must not use it afterwards.

    Returns:
        A model for inference.
    """
    folded = project_cross_attention(unet)  # one image token: the same output from one linear layer
    folded = copy.deepcopy(unet) if folded is unet and not consume else folded
    folded = folded.eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, ResidualPart) and embedding is not None:
            _fold_time_embedding(module, embedding)
        elif isinstance(module, SpatioTemporalResBlock):
            _fold_blend(module)
        elif isinstance(module, SpatioTemporalTransformer):
            _fold_affine(module.norm, [module.proj_in])
        elif isinstance(module, AttentionBlock):
            attention = module.attn1
            _fold_affine(module.norm1, [attention.to_q, attention.to_k, attention.to_v])
            _fold_scale(attention)
            _fold_affine(module.norm3, [_first_layer(module.ff)])
            if isinstance(module, TemporalAttentionBlock):
                _fold_affine(module.norm_in, [_first_layer(module.ff_in)])
    set_phone_form(folded)
    return folded


def _fold_time_embedding(part: ResidualPart, embedding: Tensor) -> None:
    """Fold conv1(x) + W e + b into a convolution with another bias, in double precision, rounded once."""
    projection, bias = part.time_emb_proj, part.conv1.bias
    assert projection is not None and projection.bias is not None and bias is not None
    added = embedding[0].double() @ projection.weight.double().T + projection.bias.double()
    part.conv1.bias = nn.Parameter((bias.double() + added).to(bias.dtype), requires_grad=False)
    part.time_emb_proj = None


def _fold_blend(block: SpatioTemporalResBlock) -> None:
    """Fold x_s + (1 - a) r with r = conv2(...): the factor goes into conv2; the residual part's sum is the blend."""
    if block.temporal_res_block is None or block.time_mixer is None:
        return
    temporal, bias = block.temporal_res_block.conv2, block.temporal_res_block.conv2.bias
    assert bias is not None
    share = torch.sigmoid(-block.time_mixer.mix_factor.double())  # 1 - a, without cancellation for a near 1
    temporal.weight.copy_(temporal.weight.double() * share)
    bias.copy_(bias.double() * share)
    block.time_mixer.folded = True


def _first_layer(feed_forward: FeedForward) -> nn.Linear:
    return cast(GEGLU, feed_forward.net[0]).proj


def _fold_affine(norm: nn.GroupNorm | nn.LayerNorm, layers: list[nn.Linear]) -> None:
    """Fold a norm's weight and bias into the layers behind it: W (w * z + b) + c = (W w) z + (W b + c)."""
    weight, bias = norm.weight.double(), norm.bias.double()
    for layer in layers:
        constant = layer.weight.double() @ bias
        if layer.bias is not None:
            constant = constant + layer.bias.double()
        layer.bias = nn.Parameter(constant.to(layer.weight.dtype), requires_grad=False)
        layer.weight.copy_(layer.weight.double() * weight)
    norm.register_parameter("weight", None)
    norm.register_parameter("bias", None)


def _fold_scale(attention: Attention) -> None:
    """Fold the softmax's scale into the query projection."""
    query, scale = attention.to_q, attention.attend.scale
    query.weight.mul_(scale)
    if query.bias is not None:
        query.bias.mul_(scale)
    attention.attend.scale = 1.0
