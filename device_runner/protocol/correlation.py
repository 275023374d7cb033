"""How many independent samples a series of latencies is worth, since neighbouring runs of one process are alike.

`runner/stop_rule.h` holds the same formulas. Sums are of whole numbers, so that both come to the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from operator import mul

LEAST_EFFECTIVE = 6
"""Least number of independent samples for a 95 % interval of the median: from the least to the greatest of 5 samples is an
interval of 93.75 % only (1 - 2 / 2^5); of 6 samples, 96.9 %."""
DOUBT = 0.5
"""Standard errors added to the estimated correlation: a series looks less correlated than it is as often as more."""
MAX_LAG = 200
"""Farthest neighbours whose likeness is summed; a longer memory shows in the nearest ones, too."""
HIGHEST = 0.999


def effective_samples(samples: Sequence[float]) -> float:
    """The number of independent samples that would tell as much about the median, from 1 to n, of samples in their order.

    n divided by the integrated autocorrelation time, which is the greater of two: that of an autoregression fitted to the
    ranks (its coefficient corrected for the bias of short series, Kendall, "Note on bias in the estimation of
    autocorrelation", 1954, and raised by `DOUBT` standard errors), and the sum of the ranks' autocorrelations as far as
    neighbouring pairs of them are positive (Geyer, "Practical Markov chain Monte Carlo", 1992). Ranks, so that single
    outliers do not hide the likeness of the rest.

    Fewer than `LEAST_EFFECTIVE` samples, and samples that are all equal, are taken as independent.
    """
    n = len(samples)
    ranks = _centred_ranks(samples)
    total = sum(map(mul, ranks, ranks))
    if n < LEAST_EFFECTIVE or total == 0:
        return float(n)
    next_alike = _lagged(ranks, 1) / total
    coefficient = max((n * next_alike + 1) / (n - 3), 0.0)
    coefficient = min(coefficient, HIGHEST)
    coefficient = min(coefficient + DOUBT * math.sqrt((1 - coefficient * coefficient) / n), HIGHEST)
    fitted = (1 + coefficient) / (1 - coefficient)
    summed = 1 + 2 * (next_alike + 1 / n)
    lag = 2
    while lag + 1 < min(n // 2, MAX_LAG):
        pair = (_lagged(ranks, lag) + _lagged(ranks, lag + 1)) / total + 2 / n
        if pair <= 0:
            break
        summed += 2 * pair
        lag += 2
    return n / max(1.0, fitted, summed)


def _centred_ranks(samples: Sequence[float]) -> list[int]:
    """Number of lesser samples minus number of greater ones, for each: whole numbers, also for ties."""
    n = len(samples)
    order = sorted(range(n), key=samples.__getitem__)
    ranks = [0] * n
    begin = 0
    while begin < n:
        end = begin
        while end < n and samples[order[end]] == samples[order[begin]]:
            end += 1
        for index in order[begin:end]:
            ranks[index] = begin - (n - end)
        begin = end
    return ranks


def _lagged(ranks: Sequence[int], lag: int) -> int:
    return sum(map(mul, ranks, islice(ranks, lag, None)))
