"""From the settings of a protocol to the function that computes its distance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.distances.frechet import frechet_distance
from eval.distances.mmd import polynomial_mmd
from eval.distances.svd_frechet import svd_frechet_distance
from eval.protocol_settings import FrechetSettings, MmdSettings

Distance = Callable[[np.ndarray, np.ndarray], float]
"""A map from the features of generated (n, d) and of real clips (m, d), in this order, to the figure."""


def make_distance(settings: FrechetSettings | MmdSettings) -> Distance:
    """The distance that a protocol asks for."""
    if isinstance(settings, MmdSettings):
        return lambda generated, real: (
            settings.scale
            * polynomial_mmd(
                generated,
                real,
                degree=settings.degree,
                gamma=settings.gamma,
                coef0=settings.coef0,
                biased=settings.biased,
            )
        )
    if settings.method == "exact":
        return lambda generated, real: frechet_distance(generated, real, settings.ddof)

    def by_svd(generated: np.ndarray, real: np.ndarray) -> float:
        first, second = (generated, real) if settings.first == "generated" else (real, generated)
        return svd_frechet_distance(first, second, settings.ddof, settings.dtype)

    return by_svd
