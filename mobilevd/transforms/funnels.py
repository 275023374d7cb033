"""Channel funnels: narrow the width between two linear layers, train it narrow, merge it away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from mobilevd.config.transforms import FunnelsSettings
from mobilevd.errors import UserError
from mobilevd.model.layers.attention import Attention
from mobilevd.model.layers.resnet import ResidualPart
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform, rebuild


def _pinv(x: Tensor, size: int) -> Tensor:
    """Pseudo-inverse in double precision of a matrix whose entries are float32.

    Singular values below float32's own rounding of a matrix of width `size` are noise; inverting them would explode.
    """
    return torch.linalg.pinv(x, rtol=torch.finfo(torch.float32).eps * size)


def coupled_singular_init(first: Tensor, second: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Coupled singular initialization (MobileVD, CSI): funnels F1, F2 with `W2 F2 F1 W1` the best rank-r `W2 W1`.

    With `W2 W1 = U S V^T` cut to the r largest singular values: F1 = S^1/2 V^T pinv(W1), F2 = pinv(W2) U S^1/2. Both
    factors are reduced by QR first, so that the decomposition is c x c whatever the outer widths are.

    Args:
        first: W1, (..., c, n) weights of the inner layer.
        second: W2, (..., m, c) weights of the outer layer.
        rank: r, at most c.

    Returns:
        F1 (..., r, c) and F2 (..., c, r), float64.
    """
    size = max(first.shape[-1], second.shape[-2])
    r1 = torch.linalg.qr(first.double().transpose(-1, -2), mode="r").R  # W1 = R1^T Q1^T
    r2 = torch.linalg.qr(second.double(), mode="r").R  # W2 = Q2 R2
    u, s, vh = torch.linalg.svd(r2 @ r1.transpose(-1, -2))
    root = s[..., :rank].sqrt()
    narrow = root[..., :, None] * (vh[..., :rank, :] @ _pinv(r1.transpose(-1, -2), size))
    widen = (_pinv(r2, size) @ u[..., :, :rank]) * root[..., None, :]
    return narrow, widen


def _he(*shape: int) -> Tensor:
    """He-normal matrices (..., d_out, d_in), the alternative that the paper compares CSI with."""
    return torch.randn(shape, dtype=torch.float64) * (2 / shape[-1]) ** 0.5


def _rows(weight: Tensor, heads: int) -> Tensor:
    """(heads * d, C) -> (heads, d, C): the weights of a projection into heads."""
    return weight.detach().double().reshape(heads, -1, weight.shape[1])


def _columns(weight: Tensor, heads: int) -> Tensor:
    """(C, heads * d) -> (heads, C, d): the weights of a projection out of heads."""
    return weight.detach().double().reshape(weight.shape[0], heads, -1).transpose(0, 1)


def attention_funnels(layer: Attention, qk: int, vo: int, init: str) -> dict[str, Tensor]:
    """The four funnels of a self-attention, per head: {"funnel_q.weight": (heads, qk, d), ...}.

    The query-key pair funnels the logits' bilinear form `W_q^T W_k`, the value-output pair `W_O W_V`.
    """
    heads, dim = layer.heads, layer.head_dim
    if init == "he":
        return {
            "funnel_q.weight": _he(heads, qk, dim),
            "funnel_k.weight": _he(heads, qk, dim),
            "funnel_v.weight": _he(heads, vo, dim),
            "funnel_out.weight": _he(heads, dim, vo),
        }
    queries, keys = _rows(layer.to_q.weight, heads), _rows(layer.to_k.weight, heads)
    funnel_k, funnel_q = coupled_singular_init(keys, queries.transpose(1, 2), qk)
    values, output = _rows(layer.to_v.weight, heads), _columns(cast(nn.Linear, layer.to_out[0]).weight, heads)
    funnel_v, funnel_out = coupled_singular_init(values, output, vo)
    return {
        "funnel_q.weight": funnel_q.transpose(1, 2),
        "funnel_k.weight": funnel_k,
        "funnel_v.weight": funnel_v,
        "funnel_out.weight": funnel_out,
    }


def merge_attention(layer: Attention) -> dict[str, Tensor]:
    """The projections with their funnels multiplied in: the same function, narrower."""

    def into(linear: nn.Linear, funnel: Tensor) -> Tensor:
        return (funnel.double() @ _rows(linear.weight, layer.heads)).flatten(0, 1)

    assert layer.funnel_q and layer.funnel_k and layer.funnel_v and layer.funnel_out
    output = cast(nn.Linear, layer.to_out[0])
    merged = _columns(output.weight, layer.heads) @ layer.funnel_out.weight.detach().double()  # (heads, C, vo)
    return {
        "to_q.weight": into(layer.to_q, layer.funnel_q.weight.detach()),
        "to_k.weight": into(layer.to_k, layer.funnel_k.weight.detach()),
        "to_v.weight": into(layer.to_v, layer.funnel_v.weight.detach()),
        "to_out.0.weight": merged.transpose(0, 1).flatten(1),
    }


def convolution_matrices(part: ResidualPart) -> tuple[Tensor, Tensor]:
    """conv1 as (c, C_in * taps) and conv2 as (C_out * taps, c), float64: the linear maps around the inner channels."""
    first = part.conv1.weight.detach().double().flatten(1)
    second = part.conv2.weight.detach().double().permute(0, 2, 3, 1).flatten(0, 2)
    return first, second


def unmixed_basis(narrow: Tensor, widen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rewrite the product `widen @ narrow` on r of the c channels themselves, each plus a share of the other channels.

    Any invertible A gives the product of (A^-1 narrow) and (widen A) too. The norm and SiLU between two convolutions
    act on each inner channel, so channels that are still the original ones disturb them least: A is made of the r
    columns of `narrow` that are the least dependent on each other. At the full width both funnels become identities.

    Args:
        narrow: (r, c).
        widen: (c, r).

    Returns:
        The two new matrices and the indices (r,) of the channels; the given matrices and the first r indices if
        `narrow` is singular.
    """
    rank = narrow.shape[0]
    if narrow.is_meta:  # no values to choose by
        return narrow, widen, torch.arange(rank, device=narrow.device)
    rest, picked = narrow.clone(), []
    for _ in range(rank):  # QR with column pivoting: always the column with the largest remainder
        best = int(rest.square().sum(0).argmax())
        picked.append(best)
        direction = rest[:, best] / rest[:, best].norm().clamp(min=torch.finfo(rest.dtype).tiny)
        rest = rest - torch.outer(direction, direction @ rest)
    channels = torch.tensor(sorted(picked), device=narrow.device)
    basis = narrow[:, channels]
    if len(set(picked)) < rank or bool(torch.linalg.cond(basis) > 1e6):
        return narrow, widen, torch.arange(rank, device=narrow.device)
    return torch.linalg.solve(basis, narrow), widen @ basis, channels


def convolution_funnels(part: ResidualPart, inner: int, init: str) -> dict[str, Tensor]:
    """Funnels of conv1-conv2, and the norm between them: {"funnel_in.weight": (inner, c, 1, 1), ...}.

    CSI ignores the norm and SiLU between the two, so for convolutions only the linear product is the best possible one.
    It leaves the basis of the inner channels open; see `unmixed_basis` for the one taken.
    """
    width = part.conv2.in_channels
    if init == "he":
        narrow, widen = _he(inner, width), _he(width, inner)
        norm = {"norm2.weight": torch.ones(inner), "norm2.bias": torch.zeros(inner)}
    else:
        narrow, widen, channels = unmixed_basis(*coupled_singular_init(*convolution_matrices(part), inner))
        norm = {f"norm2.{key}": getattr(part.norm2, key).detach()[channels] for key in ("weight", "bias")}
    return {"funnel_in.weight": narrow[:, :, None, None], "funnel_out.weight": widen[:, :, None, None], **norm}


def merge_convolution(part: ResidualPart) -> dict[str, Tensor]:
    """conv1 (its bias and the time embedding's projection too) and conv2 with their funnels multiplied in."""
    assert part.funnel_in is not None and part.funnel_out is not None
    narrow = part.funnel_in.weight.detach().double().flatten(1)  # (inner, c)
    widen = part.funnel_out.weight.detach().double().flatten(1)  # (c, inner)
    assert part.conv1.bias is not None and part.time_emb_proj is not None
    return {
        "conv1.weight": torch.einsum("rc,cikl->rikl", narrow, part.conv1.weight.detach().double()),
        "conv1.bias": narrow @ part.conv1.bias.detach().double(),
        "time_emb_proj.weight": narrow @ part.time_emb_proj.weight.detach().double(),
        "time_emb_proj.bias": narrow @ part.time_emb_proj.bias.detach().double(),
        "conv2.weight": torch.einsum("ockl,cr->orkl", part.conv2.weight.detach().double(), widen),
    }


class Funnels(Transform[FunnelsSettings]):
    """Narrow the inner widths of self-attentions and, as an option, of residual parts.

    A fun-factor is new width / old width. Attention is narrowed per head, in the query-key and the value-output pair of
    every self-attention (the softmax scale stays that of the full width); convolutions in conv1-conv2 of every residual
    part, spatial and temporal.

    While training, the funnels are layers of their own (according to the paper, merging before training is worse);
    `finish` merges them without loss. A layer is narrowed once: a model that has funnels or narrowed layers is refused.
    """

    def widths(self, unet: nn.Module) -> dict[str, int]:
        """The config's `inner_widths`: round(fun-factor * width), at least 1, of every layer that is narrowed."""
        widths: dict[str, int] = {}
        for name, layer in _narrowable(unet):
            if isinstance(layer, Attention) and self.settings.attention is not None:
                widths[f"{name}.qk"] = widths[f"{name}.vo"] = max(1, round(self.settings.attention * layer.head_dim))
            if isinstance(layer, ResidualPart) and self.settings.convolution is not None:
                widths[f"{name}.conv"] = max(1, round(self.settings.convolution * layer.conv2.in_channels))
        return widths

    def begin(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        if unet.config["inner_widths"]:
            raise UserError(
                "transform funnels: this UNet has narrowed layers already; "
                "narrow attention and convolution in one stage"
            )
        widths = self.widths(unet)
        tensors: dict[str, Tensor] = {}
        for name, layer in _narrowable(unet):
            if isinstance(layer, Attention) and f"{name}.qk" in widths:
                made = attention_funnels(layer, widths[f"{name}.qk"], widths[f"{name}.vo"], self.settings.init)
            elif isinstance(layer, ResidualPart) and f"{name}.conv" in widths:
                made = convolution_funnels(layer, widths[f"{name}.conv"], self.settings.init)
            else:
                continue
            tensors |= {f"{name}.{key}": tensor for key, tensor in made.items()}
        return rebuild(unet, tensors, inner_widths=widths, live_funnels=True)

    def finish(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        return merge_funnels(unet)


def merge_funnels(unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
    """Multiply live funnels into their neighbours: the same function with fewer weights and operations."""
    tensors: dict[str, Tensor] = {}
    for name, layer in _narrowable(unet):
        if isinstance(layer, Attention) and layer.funnel_q is not None:
            tensors |= {f"{name}.{key}": tensor for key, tensor in merge_attention(layer).items()}
        if isinstance(layer, ResidualPart) and layer.funnel_in is not None:
            tensors |= {f"{name}.{key}": tensor for key, tensor in merge_convolution(layer).items()}
    return rebuild(unet, tensors, live_funnels=False)


def _narrowable(unet: nn.Module) -> Iterator[tuple[str, Attention | ResidualPart]]:
    """Self-attentions and residual parts by name; cross-attention is left to its own transform."""
    for name, layer in unet.named_modules():
        if isinstance(layer, ResidualPart) or (isinstance(layer, Attention) and not name.endswith(".attn2")):
            yield name, layer
