"""Self-attention, cross-attention to the one image token, and the feed-forward network."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.model.layers.ops import PhoneForm, ScaledDotProduct, with_zero_gradients


class HeadFunnel(nn.Module):
    """A matrix per head on the inner width: (N, heads, S, d_in) -> (N, heads, S, d_out).

    One half of a channel funnel (MobileVD, "channel funnels"); the transform in `mobilevd/transforms/funnels.py`
    initializes and merges it.
    """

    def __init__(self, heads: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, d_out, d_in))
        nn.init.kaiming_normal_(self.weight.view(heads * d_out, d_in))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self.weight.transpose(1, 2))


class Attention(nn.Module):
    """Multi-head attention over tokens (N, S, C) -> (N, S, C); `context` (N, S', D) gives keys and values if not None.

    Args:
        dim: channels C.
        heads: number of heads; the softmax scale is (C / heads)**-0.5 whatever the inner widths are.
        context_dim: channels D of the context; None means self-attention.
        qk_dim, vo_dim: inner width per head of the query-key and the value-output pair; C / heads unless a funnel
            narrowed it.
        live_funnels: the funnels are still separate matrices, between projections of the full width.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        context_dim: int | None = None,
        qk_dim: int | None = None,
        vo_dim: int | None = None,
        live_funnels: bool = False,
    ) -> None:
        super().__init__()
        head_dim = dim // heads
        self.heads, self.head_dim = heads, head_dim
        qk_linear = head_dim if live_funnels or qk_dim is None else qk_dim
        vo_linear = head_dim if live_funnels or vo_dim is None else vo_dim
        self.to_q = nn.Linear(dim, heads * qk_linear, bias=False)
        self.to_k = nn.Linear(context_dim or dim, heads * qk_linear, bias=False)
        self.to_v = nn.Linear(context_dim or dim, heads * vo_linear, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(heads * vo_linear, dim)])
        self.funnel_q = HeadFunnel(heads, head_dim, qk_dim) if live_funnels and qk_dim else None
        self.funnel_k = HeadFunnel(heads, head_dim, qk_dim) if live_funnels and qk_dim else None
        self.funnel_v = HeadFunnel(heads, head_dim, vo_dim) if live_funnels and vo_dim else None
        self.funnel_out = HeadFunnel(heads, vo_dim, head_dim) if live_funnels and vo_dim else None
        self.attend = ScaledDotProduct(1 / math.sqrt(head_dim))

    def _split(self, x: Tensor) -> Tensor:
        n, tokens, inner = x.shape
        return x.reshape(n, tokens, self.heads, inner // self.heads).transpose(1, 2)  # (N, heads, S, d)

    def to_one_token(self, context: Tensor) -> Tensor:
        """Attention to a context (N, 1, D), the same for every query: (N, 1, C).

        The softmax over one key is 1, so queries and keys take no part; their gradient is zero, and is set.
        """
        out = self.to_out[0](self.to_v(context))
        return with_zero_gradients(out, [*self.to_q.parameters(), *self.to_k.parameters()])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        q, k, v = self._split(self.to_q(x)), self._split(self.to_k(source)), self._split(self.to_v(source))
        if self.funnel_q is not None and self.funnel_k is not None:
            q, k = self.funnel_q(q), self.funnel_k(k)
        if self.funnel_v is not None:
            v = self.funnel_v(v)
        out = self.attend(q, k, v)  # (N, heads, S, d)
        if self.funnel_out is not None:
            out = self.funnel_out(out)
        n, tokens, _ = x.shape
        return self.to_out[0](out.transpose(1, 2).reshape(n, tokens, -1))


class CrossAttentionProjection(nn.Module):
    """Cross-attention to a single context token, exactly: `W_O W_V c + b_O` at every position.

    The softmax over one key is 1, so queries and keys do nothing (MobileVD, "optimized cross-attention").
    context (B, 1, D) -> (B, 1, C), to be added at every position.
    """

    def __init__(self, dim: int, context_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(context_dim, dim)

    def forward(self, context: Tensor) -> Tensor:
        return self.proj(context)


class GEGLU(PhoneForm, nn.Module):
    """Gated GELU: `a * gelu(b)` with (a, b) = W x + b; (N, S, C) -> (N, S, inner)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        if self.phone_form:  # two linears: splitting the wide result would leave the delegate
            weight, gate_weight = self.proj.weight.chunk(2, dim=0)
            bias, gate_bias = self.proj.bias.chunk(2, dim=0)
            return F.linear(x, weight, bias) * F.gelu(F.linear(x, gate_weight, gate_bias))
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width, and back: (N, S, C) -> (N, S, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # the empty module in the middle stands where diffusers has its dropout, so that the names agree
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))
