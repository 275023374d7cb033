"""The squared maximum mean discrepancy of two sets of features under a polynomial kernel: JEDi's, and KVD's."""

from __future__ import annotations

import numpy as np

from eval.distances.feature_sets import two_sets

ROWS_AT_A_TIME = 1024  # of the kernel matrix in memory: 40 MB against 5000 samples


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
    video features): degree 3, coef0 1, unbiased, which leaves out each sample's kernel with itself and may be negative.
    JEDi (Luo et al. 2024) is `100 * polynomial_mmd(x, y, degree=2, coef0=0, biased=True)`, never negative.

    Raises UserError for fewer than 2 samples, different d, NaN or infinity.
    """
    x, y = two_sets(x, y, "polynomial MMD")
    scale = 1 / x.shape[1] if gamma is None else gamma

    def total(a: np.ndarray, b: np.ndarray) -> float:
        """The sum of the kernel over all pairs."""
        parts = (a[start : start + ROWS_AT_A_TIME] for start in range(0, len(a), ROWS_AT_A_TIME))
        return float(sum(((scale * (part @ b.T) + coef0) ** degree).sum() for part in parts))

    def within(a: np.ndarray) -> float:
        """The mean of the kernel over pairs of one set."""
        if biased:
            return total(a, a) / len(a) ** 2
        own = float(((scale * (a * a).sum(axis=1) + coef0) ** degree).sum())
        return (total(a, a) - own) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))
