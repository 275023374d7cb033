"""The confidence of a percentile and of the ratio of two: bootstrap of order statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 10_000
SEED = 20_260_301
"""Seed of the resampling, fixed so that two files always give the same result."""


def resampled_percentiles(
    samples: Sequence[float],
    p: float,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    effective: float | None = None,
) -> np.ndarray:
    """The `p`-th percentile of resamples drawn with replacement; (resamples,), in the samples' unit.

    This is exactly the bootstrap's distribution (Efron, 1979) without drawing whole resamples, so 30 000 samples cost
    no more than 20. A resample is n uniform draws U mapped to sorted[floor(n U)], which keeps order, so its k-th order
    statistic is that of U_(k), distributed as Beta(k, n - k + 1), and the next is the least of the n - k draws that are
    left, uniform above it (David and Nagaraja, "Order Statistics", 2003, 2.2 and 2.5).

    Samples worth fewer than n independent ones (`effective`) give the wider distribution of so many draws; their quantiles
    are then interpolated between the samples.
    """
    import numpy as np

    ordered = np.sort(np.asarray(samples, dtype=np.float64))  # (n,)
    n = len(ordered)
    if effective is not None and effective < n:
        position = max(effective - 1, 0.0) * p / 100
        level = rng.beta(position + 1, max(effective - 1, 0.0) - position + 1, size=resamples)
        return np.interp(level * n - 0.5, np.arange(n), ordered)
    position = (n - 1) * p / 100  # as in `statistics.percentile`
    k = math.floor(position) + 1
    below = rng.beta(k, n - k + 1, size=resamples)  # U_(k)
    above = below if k == n else 1 - (1 - below) * rng.random(resamples) ** (1 / (n - k))  # U_(k + 1)
    low, high = (ordered[np.minimum((n * uniform).astype(np.int64), n - 1)] for uniform in (below, above))
    return low + (high - low) * (position - math.floor(position))


def ratio_interval(
    a: Sequence[float], b: Sequence[float], p: float, alpha: float, effective: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The 1 - `alpha` bootstrap interval (percentile method) of the ratio of `b`'s `p`-th percentile to `a`'s.

    The samples of each side are worth `effective` independent ones, by default as many as there are.
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    worth_a, worth_b = effective or (len(a), len(b))
    after = resampled_percentiles(b, p, rng, effective=worth_b)
    ratios = after / resampled_percentiles(a, p, rng, effective=worth_a)
    low, high = np.quantile(ratios, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)
