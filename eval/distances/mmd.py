"""The squared maximum mean discrepancy of two sets of features under a polynomial kernel: JEDi's, and KVD's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from eval.distances.feature_sets import two_sets

ROWS_AT_A_TIME = 1024  # of the kernel matrix in memory: 40 MB against 5000 samples
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A map from (n, d) and (m, d) to the kernel of every pair, (n, m)."""


def polynomial_mmd(
    x: np.ndarray,
    y: np.ndarray,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    biased: bool = False,
) -> float:
    """Squared MMD between features x (n, d) and y (m, d) under `k(a, b) = (gamma a.b + coef0)^degree`, float64.

    gamma is 1/d where it is None. The defaults are the kernel distance of Binkowski et al. 2018 (section 4, KID; KVD on
    video features): degree 3, coef0 1, unbiased (Gretton et al. 2012, equation 3), which leaves out each sample's kernel
    with itself, has the same expectation for any n and m, and may be negative. JEDi (Luo et al. 2024) is
    `100 * polynomial_mmd(x, y, degree=2, coef0=0, biased=True)`, never negative.

    Raises UserError for fewer than 2 samples, different d, NaN or infinity.
    """
    x, y = two_sets(x, y, "polynomial MMD")
    return float(_weighted(x, y, np.ones((1, len(x))), _kernel(degree, gamma, coef0), biased)[0])


def resampled_mmd(
    x: np.ndarray,
    y: np.ndarray,
    resamples: int,
    seed: int = 0,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    biased: bool = False,
) -> np.ndarray:
    """`polynomial_mmd` (resamples,) of y to as many sets drawn from x (n, d) with replacement, n of them each.

    The sets are those of `eval.distances.frechet.resampled_distances`. Where it is unbiased, a clip that was drawn twice
    is no pair of two clips: such pairs are left out, or the distance of a drawn set would be larger than that of the
    clips themselves.
    """
    x, y = two_sets(x, y, "polynomial MMD")
    n, rng = len(x), np.random.default_rng(seed)
    draws = (rng.integers(n, size=n) for _ in range(resamples))
    weights = np.stack([np.bincount(draw, minlength=n) for draw in draws]).astype(np.float64)  # (R, n)
    return _weighted(x, y, weights, _kernel(degree, gamma, coef0), biased)


def _kernel(degree: int, gamma: float | None, coef0: float) -> Kernel:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        scale = 1 / a.shape[1] if gamma is None else gamma
        return (scale * (a @ b.T) + coef0) ** degree

    return kernel


def _weighted(x: np.ndarray, y: np.ndarray, weights: np.ndarray, kernel: Kernel, biased: bool) -> np.ndarray:
    """Squared MMD (R,) between y and sets that hold sample i of x weights[r, i] times, n samples each."""
    n = len(x)
    to_y = np.concatenate([kernel(x[rows], y).mean(axis=1) for rows in _parts(n)])  # (n,)
    within_y = _within(y, np.ones((1, len(y))), kernel, biased)
    return _within(x, weights, kernel, biased) + within_y - 2 * weights @ to_y / n


def _within(x: np.ndarray, weights: np.ndarray, kernel: Kernel, biased: bool) -> np.ndarray:
    """The mean of the kernel (R,) over the pairs of each set, unbiased of different samples alone."""
    n = len(x)
    sums, of_all = np.zeros(len(weights)), 0.0
    for rows in _parts(n):
        part = kernel(x[rows], x)  # (rows, n)
        if not biased:
            part[np.arange(len(part)), np.arange(n)[rows]] = 0.0
        sums += np.einsum("rb,rb->r", weights[:, rows], weights @ part.T)
        of_all += float(part.sum())
    pairs = np.full(len(weights), float(n * n)) if biased else n * n - (weights**2).sum(axis=1)
    # no pair where one sample alone was drawn: the mean over all, then
    return np.divide(sums, pairs, out=np.full(len(weights), of_all / (n * (n - 1))), where=pairs > 0)


def _parts(n: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_AT_A_TIME) for start in range(0, n, ROWS_AT_A_TIME))
