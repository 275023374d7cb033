"""Drawing exactly n of N units without replacement, each with a prescribed probability of being in the draw."""

from __future__ import annotations

import torch
from torch import Tensor

_CERTAIN = 1 - 1e-9  # float64 probabilities above this are 1: Brewer's formula divides by 1 - p


def inclusion_probabilities(weights: Tensor, n: int) -> Tensor:
    """p_i = min(1, c * weights_i) with sum n: (N,) positive weights -> (N,) float64.

    c is found by iteration: units whose share is 1 or more are certain, and the rest share what is left of n.

    Raises:
        ValueError: n is not in 1..N, or a weight is not positive and finite.
    """
    if not 1 <= n <= len(weights):
        raise ValueError(f"{n} units cannot be drawn out of {len(weights)}; from 1 to {len(weights)} can")
    weights = weights.detach().double()
    if not bool(((weights > 0) & torch.isfinite(weights)).all()):
        raise ValueError(f"inclusion probabilities need positive finite weights; there are {weights.tolist()}")
    certain = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    probabilities = torch.ones_like(weights)
    while (left := n - int(certain.sum())) > 0:
        share = left * weights / weights[~certain].sum()
        over = ~certain & (share >= _CERTAIN)
        if not bool(over.any()):
            return torch.where(certain, probabilities, share)
        certain |= over
    # every place is taken: what remains has (up to rounding) no probability
    return torch.where(certain, probabilities, torch.zeros_like(weights))


def brewer_draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Draw sum(p) units without replacement with P(i is drawn) = p_i: (N,) -> (N,) bool, on the CPU.

    Brewer's method for any sample size (Brewer & Hanif, 1983; Tille, "Sampling algorithms", 2006, section 6.2.5): at
    draw j, with a the sum of p over the units drawn so far, unit k is taken with a probability proportional to

        p_k (n - a - p_k) / (n - a - p_k (n - j + 1)).

    Raises:
        ValueError: a probability outside [0, 1], or a sum that is not a positive whole number.
    """
    p = probabilities.detach().double().cpu()
    total = float(p.sum())
    if bool((p < 0).any()) or bool((p > 1 + 1e-9).any()):
        raise ValueError(f"inclusion probabilities must lie in [0, 1]; there are {p.tolist()}")
    if abs(total - round(total)) > 1e-6 or round(total) < 1:
        raise ValueError(f"inclusion probabilities must sum to a positive whole number; they sum to {total}")
    drawn = p >= _CERTAIN
    p = torch.where(drawn, 0.0, p)
    n = round(total) - int(drawn.sum())  # the certain units are taken; the others are drawn from among themselves
    for j in range(1, n + 1):
        left = p[~drawn].sum()  # n - a
        denominator = left - p * (n - j + 1)
        factor = torch.where(denominator > 1e-12, (left - p) / denominator, 1.0)  # 1 where both vanish (last draw)
        candidates = torch.nonzero(~drawn & (p > 0)).flatten()
        cumulative = (p * factor)[candidates].cumsum(0)
        point = torch.rand((), generator=generator, dtype=torch.float64) * cumulative[-1]
        place = int(torch.searchsorted(cumulative, point, right=True))
        drawn[candidates[min(place, len(candidates) - 1)]] = True
    return drawn
