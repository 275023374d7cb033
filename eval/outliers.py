"""How far each clip lies from the reference clips: which ones a distance comes from."""

from __future__ import annotations

import numpy as np


def outlier_scores(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of features (n, d) from the Gaussian of reference features (m >= 2, d), over sqrt(d): (n,).

    1 is the root mean square of clips of the reference's kind. The covariance is shrunk towards a sphere by the amount that
    Chen et al. 2010 derive (OAS, equation 23), since from few clips it is singular.
    """
    count, dim = reference.shape
    mean = reference.mean(axis=0)
    centred = reference - mean
    covariance = centred.T @ centred / count
    trace, squared = float(np.trace(covariance)), float(np.sum(covariance**2))
    if trace == 0:
        return np.where(np.abs(features - mean).max(axis=1) > 0, np.inf, 0.0)
    spread = (count + 1 - 2 / dim) * (squared - trace**2 / dim)
    share = 1.0 if spread <= 0 else min(1.0, ((1 - 2 / dim) * squared + trace**2) / spread)
    shrunk = (1 - share) * covariance + share * trace / dim * np.eye(dim)
    values, vectors = np.linalg.eigh(shrunk)
    return np.sqrt(np.mean(((features - mean) @ vectors) ** 2 / np.maximum(values, 1e-12 * trace / dim), axis=1))
