"""Operators in two forms: the native one, fast in PyTorch, and the phone form, made of operators that XNNPACK supports.

Both compute the same numbers. `set_phone_form` chooses the form for a whole model before it is exported. The phone form
uses what XNNPACK does fast with channels last in memory: means over pixels first and over a group's channels after,
means over channels as a product, attention as two batched products and a softmax, nearest upsampling as a product with
ones (XNNPACK has no interpolation by nearest neighbour).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class PhoneForm:
    """Mixin of modules that have a phone form; `set_phone_form` sets the flag."""

    phone_form: bool = False


def set_phone_form(model: nn.Module, enabled: bool = True) -> None:
    """Choose the form of every operator in `model`: the phone form if `enabled`, else the native one."""
    for module in model.modules():
        if isinstance(module, PhoneForm):
            module.phone_form = enabled


class GroupNorm(PhoneForm, nn.GroupNorm):
    """Group normalization of (N, C, *, *): frames (B*T, C, H, W) or, over time too, (B, C, T, H*W)."""

    def _group_mean(self, x: Tensor) -> Tensor:
        """Mean over each group and all positions: (N, C, *, *) -> (N, groups, 1, 1)."""
        by_channel = x.mean((2, 3), keepdim=True)  # pixels first: by far the fastest with channels last in memory
        per_group = self.num_channels // self.num_groups
        return by_channel.reshape(x.shape[0], self.num_groups, per_group, 1).mean((2, 3), keepdim=True)

    def forward(self, input: Tensor) -> Tensor:
        if not self.phone_form:
            return super().forward(input)
        n, channels = input.shape[0], self.num_channels
        grouped = (1, self.num_groups, channels // self.num_groups, 1)
        ones = torch.ones(grouped, dtype=input.dtype, device=input.device)
        weight, bias = affine(self)
        centred = input - (self._group_mean(input) * ones).reshape(n, channels, 1, 1)
        deviation = torch.rsqrt(self._group_mean(centred * centred) + self.eps)  # (N, groups, 1, 1)
        scale = deviation * (ones if weight is None else weight.reshape(grouped))
        standard = centred * scale.reshape(n, channels, 1, 1)
        return standard if bias is None else standard + bias.reshape(1, channels, 1, 1)


class LayerNorm(PhoneForm, nn.LayerNorm):
    """Layer normalization of tokens (N, S, C)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.phone_form:
            return super().forward(input)
        channels = input.shape[-1]
        average = torch.full((1, channels), 1 / channels, dtype=input.dtype, device=input.device)
        weight, bias = affine(self)
        centred = input - F.linear(input, average)  # the mean as a product: several times faster than XNNPACK's mean
        standard = centred * torch.rsqrt(F.linear(centred * centred, average) + self.eps)
        if weight is not None:
            standard = standard * weight
        return standard if bias is None else standard + bias


def affine(norm: nn.GroupNorm | nn.LayerNorm) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias of a normalization; None where they were folded into the layer behind it (export)."""
    return norm.weight, norm.bias


class ScaledDotProduct(PhoneForm, nn.Module):
    """softmax(scale q k^T) v for q, k (N, heads, S, d) and v (N, heads, S, e) -> (N, heads, S, e)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.phone_form:
            half = q.dtype in (torch.bfloat16, torch.float16)
            if half and q.is_cpu and torch.is_grad_enabled() and k.shape[2] <= PLAIN_ATTENTION_KEYS:
                return torch.softmax((q * self.scale) @ k.transpose(-2, -1), dim=-1) @ v
            return F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        n, heads, queries, _ = q.shape
        q, k, v = (x.reshape(n * heads, x.shape[2], x.shape[3]) for x in (q, k, v))
        q = q if self.scale == 1 else q * self.scale
        batch, rows = attention_chunk(n * heads, queries, k.shape[1])
        parts = []
        for i in range(0, n * heads, batch):
            keys, values = k[i : i + batch].transpose(1, 2), v[i : i + batch]
            for j in range(0, queries, rows):
                weights = torch.softmax(torch.bmm(q[i : i + batch, j : j + rows], keys), dim=-1)
                parts.append(torch.bmm(weights, values))  # (batch, rows, e)
        # rows are cut only where the batch is cut down to one, so that all parts follow each other in (N*heads*S)
        return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts]).reshape(n, heads, queries, -1)


# In training in half precision on a CPU, plain products are faster than the fused kernel's backward pass up to about this
# many keys; in full precision they are not (benchmarks/cpu_attention.py).
PLAIN_ATTENTION_KEYS = 256

# bytes of scores at a time in the phone form of attention: a part of the caches, and a bound on memory (4096 tokens: 64
# MB a head)
ATTENTION_CHUNK_BYTES = 16 * 2**20


def attention_chunk(batch: int, queries: int, keys: int) -> tuple[int, int]:
    """Number of the `batch` attentions, and of rows of queries in each, to compute at a time, in float32."""
    rows = max(1, ATTENTION_CHUNK_BYTES // (4 * keys))
    return max(1, min(batch, rows // queries)), min(queries, rows)


class NearestUpsample(PhoneForm, nn.Module):
    """Nearest-neighbour upsampling of (N, C, H, W) to (N, C, f*H, f*W)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        f = self.factor
        if self.phone_form:  # channels last, as in the memory of the phone form
            ones = torch.ones(1, 1, f, 1, dtype=x.dtype, device=x.device)
            wide = x.permute(0, 2, 3, 1).reshape(n * height, width, 1, channels) * ones
            tall = wide.reshape(n, height, 1, f * width * channels) * ones
            return tall.reshape(n, f * height, f * width, channels).permute(0, 3, 1, 2)
        # repeat_interleave would do the same through rank 5
        x = x.reshape(n * channels, height, 1, width).expand(-1, -1, f, -1)
        x = x.reshape(n * channels, height * f, width, 1).expand(-1, -1, -1, f)
        return x.reshape(n, channels, height * f, width * f)


def repeat_per(x: Tensor, times: int) -> Tensor:
    """(B, ...) -> (B*times, ...), each entry repeated in place; batch 1 is left to broadcasting (no copy)."""
    return x if x.shape[0] == 1 else x.repeat_interleave(times, dim=0, output_size=x.shape[0] * times)


class _WithZeroGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *idle: Tensor) -> Tensor:
        ctx.idle = idle
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], *(torch.zeros_like(parameter) for parameter in ctx.idle)


def with_zero_gradients(x: Tensor, idle: Iterable[nn.Parameter]) -> Tensor:
    """x itself; parameters that take no part in it get gradients of zero, as optimizers and DDP expect of all."""
    trained = [parameter for parameter in idle if parameter.requires_grad]
    return cast(Tensor, _WithZeroGradients.apply(x, *trained)) if trained and torch.is_grad_enabled() else x


def checkpointed(enabled: bool, module: nn.Module, *args: Any) -> Tensor:
    """Call `module`; with gradient checkpointing its activations are computed again in the backward pass."""
    if enabled and torch.is_grad_enabled():
        return cast(Tensor, checkpoint(module, *args, use_reentrant=False))
    return module(*args)
