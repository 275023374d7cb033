"""The Frechet distance between two sets of features: exact, without a matrix square root."""

from __future__ import annotations

import numpy as np

from eval.distances.feature_sets import two_sets


def _factor(x: np.ndarray, ddof: int) -> np.ndarray:
    """A factor R with R^T R = the covariance of x (n, d), divided by n - ddof; R is (min(n, d), d)."""
    centred = (x - x.mean(axis=0)) / np.sqrt(x.shape[0] - ddof)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def frechet_distance(x: np.ndarray, y: np.ndarray, ddof: int = 1) -> float:
    """Squared Frechet (2-Wasserstein) distance between the Gaussians fitted to features x (n, d) and y (m, d).

    `|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))` (Dowson and Landau 1982, as in FID and FVD), with covariances
    over n - ddof: unbiased ones, or with ddof 0 those over n that StyleGAN-V and cd-fvd take. With `S_x = A^T A` and
    `S_y = B^T B` the last trace is the nuclear norm of `A B^T`, for any n, m and d and without the square root of a
    (perhaps singular) matrix.

    The covariance part is computed as a squared norm, `min over orthogonal Q of |A - Q B|_F^2` (orthogonal Procrustes),
    attained at the polar factor of `A B^T`. A difference of large traces would leave a rounding error of about 1e-16
    times those traces, of either sign; a sum of squares is never negative, and its error is relative to the result.
    Raises UserError for fewer than 2 samples, different d, NaN or infinity.
    """
    x, y, unit = _in_one_unit(x, y)
    return _between(_fit(x, ddof), _fit(y, ddof)) * unit * unit


def resampled_distances(x: np.ndarray, y: np.ndarray, resamples: int, seed: int = 0, ddof: int = 1) -> np.ndarray:
    """Frechet distances (resamples,) of y to as many sets drawn from x (n, d) with replacement, n of them each."""
    x, y, unit = _in_one_unit(x, y)
    rng, reference = np.random.default_rng(seed), _fit(y, ddof)
    draws = (x[rng.integers(len(x), size=len(x))] for _ in range(resamples))
    return np.array([_between(_fit(draw, ddof), reference) * unit * unit for draw in draws])


def _in_one_unit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both sets of features in a common power of two as the unit: squares of any size neither overflow nor vanish."""
    x, y = two_sets(x, y, "Frechet distance")
    largest = max(float(np.abs(x).max()), float(np.abs(y).max()))
    unit = float(2.0 ** np.floor(np.log2(largest))) if largest > 0 else 1.0
    return x / unit, y / unit, unit


def _fit(x: np.ndarray, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gaussian of features (n, d): mean (d,) and `_factor`."""
    return x.mean(axis=0), _factor(x, ddof)


def _between(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]) -> float:
    (mean_x, a), (mean_y, b) = x, y  # factors (k, d), (l, d)
    rows = max(len(a), len(b))
    a, b = (np.pad(f, ((0, rows - len(f)), (0, 0))) for f in (a, b))  # zero rows change no covariance
    u, _, vt = np.linalg.svd(a @ b.T)
    residual = a - (u @ vt) @ b  # (rows, d)
    mean = mean_x - mean_y
    return float(np.sum(mean * mean) + np.sum(residual * residual))
