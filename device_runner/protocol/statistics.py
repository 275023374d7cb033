"""Summary of latency samples, and the definition of a percentile for all figures here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from device_runner.errors import RunnerError
from device_runner.protocol.correlation import LEAST_EFFECTIVE, effective_samples

PERCENTILES = (5, 50, 90, 95, 99)
PERCENTILE_METHOD = "linear interpolation between order statistics, position (n - 1) * p / 100"
TRIM_DIVISOR = 10
"""Inverse of the share of samples that the trimmed mean leaves out at each end."""
Z_95 = 1.96
"""97.5 % quantile of the normal distribution, which leaves 95 % between both tails."""


def percentile(samples: Sequence[float], p: float) -> float:
    """The `p`-th percentile, 0 <= p <= 100, by `PERCENTILE_METHOD`.

    numpy's default; type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996.
    """
    if not samples or not 0 <= p <= 100:
        raise RunnerError(f"percentile {p} of {len(samples)} samples: needs a sample and 0 <= p <= 100")
    return _percentile_of_sorted(sorted(samples), p)


def _percentile_of_sorted(ordered: Sequence[float], p: float) -> float:
    position = (len(ordered) - 1) * p / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def summarize(samples_ms: Sequence[float]) -> dict[str, float]:
    """Figures of latency samples in milliseconds, given in the order they were taken.

    Returns `n`, `mean`, `std` (of the sample, n - 1; 0 for one sample), `trimmed_mean` (without the least and the
    greatest tenth), `min`, `p5`, `p50`, `p90`, `p95`, `p99`, `max`, `median_ci_low` and `median_ci_high` (see
    `median_interval`) in milliseconds; `effective_n`, the number of independent samples they are worth; `cv`, the
    coefficient of variation std / mean; and `drift`: mean of the last half over mean of the first half (the middle sample
    of an odd number is in neither; 1 for one sample). A drift well above 1 means that the device slowed down while it was
    measured.

    Raises `RunnerError` for no samples, or for one that is negative or not finite.
    """
    _check(samples_ms)
    n = len(samples_ms)
    ordered = sorted(samples_ms)
    mean = math.fsum(ordered) / n
    std = math.sqrt(math.fsum((s - mean) ** 2 for s in ordered) / (n - 1)) if n > 1 else 0.0
    cut = n // TRIM_DIVISOR
    kept = ordered[cut : n - cut]
    half = n // 2
    first, last = math.fsum(samples_ms[:half]), math.fsum(samples_ms[n - half :])
    effective = effective_samples(samples_ms)
    low, high = _median_interval_of_sorted(ordered, effective)
    return {
        "n": n,
        "effective_n": effective,
        "mean": mean,
        "std": std,
        "cv": std / mean if mean > 0 else 0.0,
        "trimmed_mean": math.fsum(kept) / len(kept),
        "min": ordered[0],
        **{f"p{p}": _percentile_of_sorted(ordered, p) for p in PERCENTILES},
        "max": ordered[-1],
        "drift": last / first if first > 0 else 1.0,
        "median_ci_low": low,
        "median_ci_high": high,
    }


def median_interval(samples: Sequence[float], effective: float | None = None) -> tuple[float, float]:
    """The 95 % confidence interval of the median from order statistics, in the samples' unit.

    No shape of the distribution is assumed: of n independent samples the 1-based ranks are floor((n - 1.96 sqrt n) / 2)
    and ceil(1 + (n + 1.96 sqrt n) / 2), the normal approximation of the binomial, rounded outwards (Campbell and Gardner,
    "Calculating confidence intervals for some non-parametric analyses", 1988). Samples of one process follow one another,
    so the interval is widened to that of `effective` samples, by default `effective_samples`.

    Fewer than `LEAST_EFFECTIVE` of those have no such interval: the result then reaches from the least to the greatest,
    and holds the median less often.
    """
    _check(samples)
    return _median_interval_of_sorted(sorted(samples), effective_samples(samples) if effective is None else effective)


def _median_interval_of_sorted(ordered: Sequence[float], effective: float) -> tuple[float, float]:
    n = len(ordered)
    if effective < LEAST_EFFECTIVE:
        return ordered[0], ordered[-1]
    spread = Z_95 * n / math.sqrt(effective)
    low = max(1, math.floor((n - spread) / 2))
    high = min(n, math.ceil(1 + (n + spread) / 2))
    return ordered[low - 1], ordered[high - 1]


def median_half_width(samples: Sequence[float]) -> float:
    """Half the width of `median_interval` as a share of the median; infinite if there is no such interval."""
    _check(samples)
    ordered, effective = sorted(samples), effective_samples(samples)
    low, high = _median_interval_of_sorted(ordered, effective)
    median = _percentile_of_sorted(ordered, 50)
    if effective < LEAST_EFFECTIVE or (median == 0 and high > low):
        return math.inf
    return (high - low) / 2 / median if high > low else 0.0


def knows_median(summary: Mapping[str, float]) -> bool:
    """True if the interval of a summary is a 95 % one; older summaries took all samples as independent."""
    return summary.get("effective_n", summary["n"]) >= LEAST_EFFECTIVE


def _check(samples: Sequence[float]) -> None:
    if not samples:
        raise RunnerError("there are no samples to summarize")
    for index, sample in enumerate(samples):
        if not (math.isfinite(sample) and sample >= 0):
            raise RunnerError(f"sample {index} is {sample} ms; a latency is a finite number and not negative")
