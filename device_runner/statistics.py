"""Summary of latency samples, and the one definition of a percentile that all figures here use."""

from __future__ import annotations

import math
from collections.abc import Sequence

from device_runner.errors import RunnerError

PERCENTILES = (5, 50, 90, 95, 99)
PERCENTILE_METHOD = "linear interpolation between order statistics, position (n - 1) * p / 100"


def percentile(samples: Sequence[float], p: float) -> float:
    """The `p`-th percentile, 0 <= p <= 100, by `PERCENTILE_METHOD`.

    numpy's default; type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996.
    """
    if not samples or not 0 <= p <= 100:
        raise RunnerError(f"percentile {p} of {len(samples)} samples: needs a sample and 0 <= p <= 100")
    ordered = sorted(samples)
    position = (len(ordered) - 1) * p / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def summarize(samples_ms: Sequence[float]) -> dict[str, float]:
    """Figures of latency samples in milliseconds, given in the order they were taken.

    Returns `n`, `mean`, `std` (of the sample, n - 1; 0 for one sample), `min`, `p5`, `p50`, `p90`, `p95`,
    `p99`, `max` in milliseconds, and `drift`: mean of the last half over mean of the first half (the middle
    sample of an odd number is in neither; 1 for one sample). A drift well above 1 means that the device
    slowed down while it was measured.

    Raises `RunnerError` for no samples, or for one that is negative or not finite.
    """
    for index, sample in enumerate(samples_ms):
        if not (math.isfinite(sample) and sample >= 0):
            raise RunnerError(f"sample {index} is {sample} ms; a latency is a finite number and not negative")
    n = len(samples_ms)
    if n == 0:
        raise RunnerError("there are no samples to summarize")
    mean = math.fsum(samples_ms) / n
    std = math.sqrt(math.fsum((s - mean) ** 2 for s in samples_ms) / (n - 1)) if n > 1 else 0.0
    half = n // 2
    first, last = math.fsum(samples_ms[:half]), math.fsum(samples_ms[n - half :])
    return {
        "n": n,
        "mean": mean,
        "std": std,
        "min": min(samples_ms),
        **{f"p{p}": percentile(samples_ms, p) for p in PERCENTILES},
        "max": max(samples_ms),
        "drift": last / first if first > 0 else 1.0,
    }
