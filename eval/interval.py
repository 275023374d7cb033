"""The interval of a distance from few clips: how far another draw of as many clips could move it."""

from __future__ import annotations

import numpy as np

from eval.distances.frechet import frechet_distance, resampled_distances

RESAMPLES = 200
DEVIATIONS = 1.96  # of a normal distribution, 95 % of it


def distance_interval(x: np.ndarray, y: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """The Frechet distance of generated features x (n, d) to reference features y (m, d), and a 95 % interval.

    The interval tells apart distances from the same number of clips n, whose mean is above the distance that infinitely
    many clips would have. It is the distance plus and minus 1.96 standard deviations of those of bootstrap samples of x.
    Their quantiles would be wrong: a set drawn with replacement has fewer different clips, so its distance is larger, and
    the quantiles do not even hold the distance itself (`benchmarks/validation_interval.py`).

    Returns:
        distance, low, high.
    """
    distance = frechet_distance(x, y)
    spread = DEVIATIONS * float(np.std(resampled_distances(x, y, RESAMPLES, seed), ddof=1))
    return distance, max(0.0, distance - spread), distance + spread
