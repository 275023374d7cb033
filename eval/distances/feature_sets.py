"""Two sets of features to compare, checked."""

from __future__ import annotations

import numpy as np

from mobilevd.errors import UserError


def two_sets(x: np.ndarray, y: np.ndarray, distance: str) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64, (n, d) and (m, d); `distance` is the name that the error says.

    Raises UserError for fewer than 2 samples, different d, NaN or infinity.
    """
    x, y = _features("x", x, distance), _features("y", y, distance)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"{distance}: x has {x.shape[1]} features per sample, y has {y.shape[1]}")
    return x, y


def _features(name: str, value: np.ndarray, distance: str) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise UserError(f"{distance}: {name} must be real features (n, d), got {array.dtype} {array.shape}")
    if array.shape[0] < 2 or array.shape[1] < 1:
        raise UserError(f"{distance}: {name} must hold at least 2 samples of 1 feature, got {array.shape}")
    array = array.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(array).all(axis=1)))
    if bad:
        raise UserError(f"{distance}: {name} has NaN or infinity in {bad} of {array.shape[0]} samples")
    return array
