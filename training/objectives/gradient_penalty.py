"""R1: the squared gradient of the logits of real clips by the heads' inputs, exactly or by a finite difference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Judge = Callable[[list[Tensor]], list[Tensor]]
"""Features (B*T, C_i, h_i, w_i) -> logits of all heads, each (B, positions)."""


def gradient_penalty(judge: Judge, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The logits of real clips, and the mean over clips and maps of |d (sum over heads of the mean logit) / d map|^2.

    Takes a second derivative in the backward pass.
    """
    inputs = [each.requires_grad_() for each in features]
    logits = judge(inputs)
    total = torch.stack([each.mean(1).sum() for each in logits]).sum()
    gradients = torch.autograd.grad(total, inputs, create_graph=True)
    clips = logits[0].shape[0]
    return logits, torch.stack([g.reshape(clips, -1).pow(2).sum(1).mean() for g in gradients]).mean()


def finite_difference_penalty(
    judge: Judge, features: list[Tensor], logits: list[Tensor], noise: list[Tensor], size: float
) -> Tensor:
    """`gradient_penalty`, estimated by how much a little noise on the features changes the logits.

    E_n [(D(x + e n) - D(x))^2] / e^2 = |dD/dx|^2 for small e, which needs no second derivative (APT, arXiv 2501.08316, and
    FastGen's LADD noise the clips; here it is the heads' inputs, as for the exact penalty).

    Args:
        logits: of the features themselves.
        noise: of unit variance, one tensor per map, of its shape.
        size: deviation of the noise, relative to that of each map.
    """
    deviations = [size * each.std() for each in features]
    nearby = judge([x + e * n for x, e, n in zip(features, deviations, noise, strict=True)])
    count = len(features)
    per_map = len(logits) // count  # heads of one map follow one another
    penalties = []
    for i, deviation in enumerate(deviations):
        mine = slice(i * per_map, (i + 1) * per_map)
        change = torch.stack([(b - a).mean(1) for a, b in zip(logits[mine], nearby[mine], strict=True)]).sum(0)
        penalties.append((change / deviation).pow(2).mean())
    return torch.stack(penalties).mean()
