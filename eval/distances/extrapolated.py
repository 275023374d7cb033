"""The Frechet distance that infinitely many clips would have, from how it falls with their number."""

from __future__ import annotations

import numpy as np

from eval.distances.frechet import frechet_distance
from mobilevd.errors import UserError

SIZES = 15  # numbers of clips that the line is fitted to, as Chong and Forsyth have it
DRAWS = 4  # sets of each number: the mean of a few is steadier than one


def clips_needed(features: int) -> int:
    """The fewest clips that are extrapolated from: half of them must be more than there are features."""
    return 2 * (features + 1)


def extrapolated_distance(x: np.ndarray, y: np.ndarray, seed: int = 0, ddof: int = 1) -> float:
    """The Frechet distance of features x (n, d) to y (m, d), extrapolated to infinite n; y stays as it is.

    The mean distance of n clips lies above that of infinitely many by about a constant over n (Chong and Forsyth 2020,
    "Effectively unbiased FID and Inception Score", section 3). So distances of parts of x are fitted by a line in 1 / n,
    and its value at 0 is returned. The parts have a quarter of the clips or more, and more clips than there are features:
    with fewer the covariance is singular, and the distances follow no line.

    Raises UserError for fewer than `clips_needed` clips.
    """
    n, d = x.shape
    if n < clips_needed(d):
        raise UserError(f"{n} clips: an extrapolation from {d} features needs at least {clips_needed(d)}")
    rng = np.random.default_rng(seed)
    smallest = max(d + 1, n // 4)
    sizes = np.unique(np.round(1 / np.linspace(1 / smallest, 1 / n, SIZES)).astype(int))
    found = [
        np.mean([frechet_distance(x[rng.permutation(n)[:size]], y, ddof) for _ in range(1 if size == n else DRAWS)])
        for size in sizes
    ]
    _, at_infinity = np.polyfit(1 / sizes, found, 1)
    return float(at_infinity)
