"""A distance of any kind with its interval, and what few clips do to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.interval import RESAMPLES, half_width


def distance_with_interval(
    distance: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, y: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """The distance of generated features x (n, d) to reference features y (m, d), and a 95 % interval: value, low, high.

    As `eval.interval.distance_interval`, by drawing the clips of x anew with replacement; the reference stays as it is.
    """
    rng, value = np.random.default_rng(seed), distance(x, y)
    resampled = [distance(x[rng.integers(len(x), size=len(x))], y) for _ in range(RESAMPLES)]
    spread = half_width(np.array(resampled))
    return value, value - spread, value + spread


def too_few(features: int, generated: int, reference: int) -> str | None:
    """What a reader must know of a Frechet distance of so few clips that a covariance is singular; None if none is."""
    fewest = min(generated, reference)
    if fewest > features:
        return None
    return (
        f"{fewest} clips for {features} features: the covariance is singular and the distance too large; compare it only "
        "with those of as many clips"
    )
