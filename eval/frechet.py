"""The Frechet distance between two sets of features: exact, without a matrix square root."""

from __future__ import annotations

import numpy as np

from mobilevd.errors import UserError


def _features(name: str, value: np.ndarray) -> np.ndarray:
    """Convert a value to float64 features (n, d); raises UserError if it cannot be."""
    array = np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise UserError(f"Frechet distance: {name} must be real features (n, d), got {array.dtype} {array.shape}")
    if array.shape[0] < 2 or array.shape[1] < 1:
        raise UserError(f"Frechet distance: {name} must hold at least 2 samples of 1 feature, got {array.shape}")
    array = array.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(array).all(axis=1)))
    if bad:
        raise UserError(f"Frechet distance: {name} has NaN or infinity in {bad} of {array.shape[0]} samples")
    return array


def _factor(x: np.ndarray) -> np.ndarray:
    """A factor R with R^T R = the covariance of x (n, d); R is (min(n, d), d)."""
    centred = (x - x.mean(axis=0)) / np.sqrt(x.shape[0] - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance between the Gaussians fitted to features x (n, d) and y (m, d).

    `|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))` (Dowson and Landau 1982, as in FID and FVD), with unbiased
    covariances. With `S_x = A^T A` and `S_y = B^T B` the last trace is the nuclear norm of `A B^T`, for any n, m and d
    and without the square root of a (perhaps singular) matrix.

    The covariance part is computed as a squared norm, `min over orthogonal Q of |A - Q B|_F^2` (orthogonal Procrustes),
    attained at the polar factor of `A B^T`. A difference of large traces would leave a rounding error of about 1e-16
    times those traces, of either sign; a sum of squares is never negative, and its error is relative to the result.
    Raises UserError for fewer than 2 samples, different d, NaN or infinity.
    """
    x, y, unit = _in_one_unit(x, y)
    return _between(_fit(x), _fit(y)) * unit * unit


def resampled_distances(x: np.ndarray, y: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Frechet distances (resamples,) of y to as many sets drawn from x (n, d) with replacement, n of them each."""
    x, y, unit = _in_one_unit(x, y)
    rng, reference = np.random.default_rng(seed), _fit(y)
    draws = (x[rng.integers(len(x), size=len(x))] for _ in range(resamples))
    return np.array([_between(_fit(draw), reference) * unit * unit for draw in draws])


def _in_one_unit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both sets of features in a common power of two as the unit: squares of any size neither overflow nor vanish."""
    x, y = _features("x", x), _features("y", y)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"Frechet distance: x has {x.shape[1]} features per sample, y has {y.shape[1]}")
    largest = max(float(np.abs(x).max()), float(np.abs(y).max()))
    unit = float(2.0 ** np.floor(np.log2(largest))) if largest > 0 else 1.0
    return x / unit, y / unit, unit


def _fit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Gaussian of features (n, d): mean (d,) and `_factor`."""
    return x.mean(axis=0), _factor(x)


def _between(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]) -> float:
    (mean_x, a), (mean_y, b) = x, y  # factors (k, d), (l, d)
    rows = max(len(a), len(b))
    a, b = (np.pad(f, ((0, rows - len(f)), (0, 0))) for f in (a, b))  # zero rows change no covariance
    u, _, vt = np.linalg.svd(a @ b.T)
    residual = a - (u @ vt) @ b  # (rows, d)
    mean = mean_x - mean_y
    return float(np.sum(mean * mean) + np.sum(residual * residual))
