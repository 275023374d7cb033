"""From the settings of a protocol to the function that computes its distance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.distances.frechet import frechet_distance, resampled_distances
from eval.distances.mmd import polynomial_mmd, resampled_mmd
from eval.distances.svd_frechet import svd_frechet_distance
from eval.protocol_settings import FrechetSettings, MmdSettings

Distance = Callable[[np.ndarray, np.ndarray], float]
"""A map from the features of generated (n, d) and of real clips (m, d), in this order, to the figure."""


def make_distance(settings: FrechetSettings | MmdSettings) -> Distance:
    """The distance that a protocol asks for."""
    if isinstance(settings, MmdSettings):
        kernel = settings.kernel
        return lambda generated, real: settings.scale * polynomial_mmd(generated, real, **kernel)
    if settings.method == "exact":
        return lambda generated, real: frechet_distance(generated, real, settings.ddof)

    def by_svd(generated: np.ndarray, real: np.ndarray) -> float:
        first, second = (generated, real) if settings.first == "generated" else (real, generated)
        return svd_frechet_distance(first, second, settings.ddof, settings.dtype)

    return by_svd


def resample(
    settings: FrechetSettings | MmdSettings, generated: np.ndarray, real: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """Distances (resamples,) of real features (m, d) to sets drawn from the generated (n, d) with replacement.

    The exact Frechet distance also stands for the svd methods: rounding is no part of how far other clips would move it.
    """
    if isinstance(settings, MmdSettings):
        return settings.scale * resampled_mmd(generated, real, resamples, seed, **settings.kernel)
    return resampled_distances(generated, real, resamples, seed, settings.ddof)
