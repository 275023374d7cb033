"""Whether two series of latencies differ by more than chance, when neighbouring samples are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEAST_SAMPLES = 5
"""Fewer independent samples on a side prove nothing: an interval from the least to the greatest of them is often wrong."""


def mann_whitney_p(a: Sequence[float], b: Sequence[float], effective: tuple[float, float]) -> float:
    """Two-sided p of the Mann-Whitney test of two series worth `effective` independent samples.

    Of independent samples it is the usual one: exact for few samples without ties, else by the normal approximation with
    correction for ties. Its deviation in standard errors is divided by what the lesser number of independent samples
    raises the standard error by, and read from Student's t with as many degrees of freedom as they leave.
    """
    from scipy.stats import mannwhitneyu, norm, t

    if min(a) == max(a) == min(b) == max(b):
        return 1.0  # all equal: the approximation's variance is 0
    independent = float(mannwhitneyu(a, b, alternative="two-sided").pvalue)
    share = (1 / len(a) + 1 / len(b)) / (1 / effective[0] + 1 / effective[1])
    if share >= 1:
        return independent
    deviation = float(norm.isf(independent / 2)) * math.sqrt(share)
    freedom = max(1.0, sum(effective) - 2)
    return min(1.0, max(2 * float(t.sf(deviation, freedom)), least_p(effective)))


def least_p(effective: tuple[float, float]) -> float:
    """The least p that so many independent samples can reach: all of one side above all of the other, 2 / C(n + m, n)."""
    n, m = (max(1, math.floor(each + 1e-9)) for each in effective)
    return min(1.0, 2 / math.comb(n + m, n))


def too_few(effective: tuple[float, float], counts: tuple[int, int], alpha: float) -> str | None:
    """Why the samples cannot prove anything at this significance; None if they can."""
    for side, worth, count in zip("AB", effective, counts, strict=True):
        if count < LEAST_SAMPLES:
            return f"{side} has {count} samples; {LEAST_SAMPLES} are the least"
        if worth < LEAST_SAMPLES:
            return (
                f"the {count} samples of {side} are worth {worth:.1f} independent ones, because neighbours are alike; "
                f"{LEAST_SAMPLES} are the least"
            )
    if (least := least_p(effective)) >= alpha:
        return f"so few samples cannot reach p < {alpha:g}: {least:.2g} is the least"
    return None
