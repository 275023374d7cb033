"""The kernel distance between two sets of features: unbiased, whatever the number of clips."""

from __future__ import annotations

import numpy as np

from eval.distances.feature_sets import two_sets
from eval.distances.mmd import polynomial_mmd

DEGREE = 3


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The squared maximum mean discrepancy of features x (n, d) and y (m, d), unbiased; it may be below 0.

    Kernel `(x . y / d + 1)^3`, as the kernel Inception distance has it (Binkowski et al. 2018, section 4, with the
    estimator of Gretton et al. 2012, equation 3): a mean over pairs of different clips, so that its expectation is the
    same for any n and m. On I3D's features it is the kernel video distance (KVD).

    Raises UserError for fewer than 2 samples a side, different d, NaN or infinity.
    """
    x, y = two_sets(x, y, "kernel distance")
    return polynomial_mmd(x, y, degree=DEGREE)


def resampled_kernel_distances(x: np.ndarray, y: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Kernel distances (resamples,) of y to as many sets drawn from x (n, d) with replacement, n of them each.

    The sets are those of `eval.distances.frechet.resampled_distances`. A clip that was drawn twice is no pair of two
    clips: such pairs are left out, or the distance of a drawn set would be larger than that of the clips themselves.
    """
    x, y = two_sets(x, y, "kernel distance")
    n, rng = len(x), np.random.default_rng(seed)
    draws = (rng.integers(n, size=n) for _ in range(resamples))
    weights = np.stack([np.bincount(draw, minlength=n) for draw in draws]).astype(np.float64)  # (R, n)
    own, others = _off_diagonal(x), _off_diagonal(y).sum() / (len(y) * (len(y) - 1))
    pairs = n * n - (weights**2).sum(axis=1)  # of different clips in each set; 0 if one clip alone was drawn
    mean_of_all = own.sum() / (n * (n - 1))
    sums = np.einsum("rn,rn->r", weights @ own, weights)
    within = np.divide(sums, pairs, out=np.full(resamples, mean_of_all), where=pairs > 0)
    return within + others - 2 * weights @ _kernel(x, y).mean(axis=1) / n


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of every pair, (n, m)."""
    return (x @ y.T / x.shape[1] + 1) ** DEGREE


def _off_diagonal(x: np.ndarray) -> np.ndarray:
    """The kernel of every pair of x, (n, n), with 0 for a sample and itself."""
    kernel = _kernel(x, x)
    np.fill_diagonal(kernel, 0.0)
    return kernel
