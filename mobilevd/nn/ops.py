"""Operators with two spellings: the native one, fast in PyTorch, and the phone's, made of what XNNPACK takes whole.

Both compute the same numbers. `set_phone_form` chooses for a whole model before it is exported. The phone's spelling:
normalization as `mean` over the two last axes of a rank-4 view (the only mean XNNPACK takes), attention as two batched
products and a softmax, nearest upsampling as a product with ones (it has no interpolation by nearest neighbour).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class PhoneForm:
    """Mixin of modules that have a second spelling; `set_phone_form` sets the flag."""

    phone_form: bool = False


def set_phone_form(model: nn.Module, enabled: bool = True) -> None:
    """Choose the spelling of every operator in `model`: the phone's if `enabled`, else the native one."""
    for module in model.modules():
        if isinstance(module, PhoneForm):
            module.phone_form = enabled


def _standardize(x: Tensor, eps: float) -> Tensor:
    """Zero mean and unit variance over the last two axes of a rank-4 tensor."""
    centred = x - x.mean((2, 3), keepdim=True)
    variance = (centred * centred).mean((2, 3), keepdim=True)
    return centred * torch.rsqrt(variance + eps)


class GroupNorm(PhoneForm, nn.GroupNorm):
    """Group normalization of (N, C, *, *): frames (B*T, C, H, W) or, over time too, (B, C, T, H*W)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.phone_form:
            return super().forward(input)
        n, channels, rows, columns = input.shape
        grouped = input.reshape(n, self.num_groups, channels // self.num_groups * rows, columns)
        standard = _standardize(grouped, self.eps).reshape(n, channels, rows, columns)
        return standard * self.weight.reshape(1, channels, 1, 1) + self.bias.reshape(1, channels, 1, 1)


class LayerNorm(PhoneForm, nn.LayerNorm):
    """Layer normalization of tokens (N, S, C)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.phone_form:
            return super().forward(input)
        n, tokens, channels = input.shape
        standard = _standardize(input.reshape(n, tokens, 1, channels), self.eps).reshape(n, tokens, channels)
        return standard * self.weight + self.bias


class ScaledDotProduct(PhoneForm, nn.Module):
    """softmax(scale q k^T) v for q, k (N, heads, S, d) and v (N, heads, S, e) -> (N, heads, S, e)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.phone_form:
            return F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        n, heads, queries, _ = q.shape
        q, k, v = (x.reshape(n * heads, x.shape[2], x.shape[3]) for x in (q, k, v))
        weights = torch.softmax(torch.bmm(q * self.scale, k.transpose(1, 2)), dim=-1)  # (N*heads, S, S)
        return torch.bmm(weights, v).reshape(n, heads, queries, -1)


class NearestUpsample(PhoneForm, nn.Module):
    """Nearest-neighbour upsampling of (N, C, H, W) to (N, C, f*H, f*W)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        f = self.factor
        tall, wide = (n * channels, height, 1, width), (n * channels, height * f, width, 1)
        if self.phone_form:
            ones = torch.ones(f, dtype=x.dtype, device=x.device)
            x = x.reshape(tall) * ones.reshape(1, 1, f, 1)
            x = x.reshape(wide) * ones.reshape(1, 1, 1, f)
        else:  # repeat_interleave would do the same by way of rank 5
            x = x.reshape(tall).expand(-1, -1, f, -1)
            x = x.reshape(wide).expand(-1, -1, -1, f)
        return x.reshape(n, channels, height * f, width * f)


def repeat_per(x: Tensor, times: int) -> Tensor:
    """(B, ...) -> (B*times, ...), each entry repeated in place; batch 1 is left to broadcasting (no copy)."""
    return x if x.shape[0] == 1 else x.repeat_interleave(times, dim=0, output_size=x.shape[0] * times)


def checkpointed(enabled: bool, module: nn.Module, *args: Any) -> Tensor:
    """Call `module`; with gradient checkpointing its activations are computed again in the backward pass."""
    if enabled and torch.is_grad_enabled():
        return cast(Tensor, checkpoint(module, *args, use_reentrant=False))
    return module(*args)
