"""The interval of a distance from few clips, and of the difference of two: how far another draw could move them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.distances.frechet import frechet_distance, resampled_distances

RESAMPLES = 200
DEVIATIONS = 1.96  # of a normal distribution, 95 % of it


def half_width(resampled: np.ndarray) -> float:
    """Half of a 95 % interval, from what bootstrap samples gave (R,): 1.96 of their standard deviations.

    Their quantiles would be wrong: a set drawn with replacement has fewer different clips, so its distance is larger, and
    the quantiles do not even hold the distance itself (`benchmarks/validation_interval.py`).
    """
    return DEVIATIONS * float(np.std(resampled, ddof=1))


def distance_interval(x: np.ndarray, y: np.ndarray, seed: int = 0, ddof: int = 1) -> tuple[float, float, float]:
    """The Frechet distance of generated features x (n, d) to reference features y (m, d), and a 95 % interval.

    The interval tells apart distances from the same number of clips n, whose mean is above the distance that infinitely
    many clips would have. The reference stays as it is. Covariances are over n - ddof clips.

    Returns:
        distance, low, high.
    """
    distance = frechet_distance(x, y, ddof)
    spread = half_width(resampled_distances(x, y, RESAMPLES, seed, ddof))
    return distance, max(0.0, distance - spread), distance + spread


@dataclass(frozen=True)
class PairedDifference:
    """The difference of two distances to the same reference clips, and its 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def is_within_noise(self) -> bool:
        """True if these clips do not tell the two apart."""
        return self.low <= 0 <= self.high


def paired_difference(
    first: float, second: float, first_resampled: np.ndarray, second_resampled: np.ndarray
) -> PairedDifference:
    """How much larger the second distance is, of two sets of clips from the same first frames.

    `..._resampled` (R,) are the distances of bootstrap samples, and sample r has the same clips by number in both: what
    makes a first frame hard moves both distances, and is no difference. `benchmarks/validation_interval.py` shows how often
    the interval is right, and how much narrower it is than that of two rows taken as independent.
    """
    difference = second - first
    spread = half_width(second_resampled - first_resampled)
    return PairedDifference(difference, difference - spread, difference + spread)
