"""The Frechet distance by the road of published code, whose rounding is part of the figures that were made with it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eval.distances.feature_sets import two_sets

SMALLEST_ROOTED = 1e-10
"""A singular value below it is kept as it is instead of rooted (tfgan's `_symmetric_matrix_square_root`)."""


def svd_frechet_distance(
    x: np.ndarray, y: np.ndarray, ddof: int = 1, dtype: Literal["float32", "float64"] = "float64"
) -> float:
    """The distance as tfgan (float64) and VideoGPT (float32) compute it, operation by operation, in torch as VideoGPT.

    Both take `tr((S_x^(1/2) S_y S_x^(1/2))^(1/2))` with roots by singular values (tensorflow/gan
    `classifier_metrics.trace_sqrt_product`; wilson1yan/VideoGPT `videogpt/fvd/fvd.py`). x takes the first place, as the
    real samples do in tfgan and the generated ones in VideoGPT: the formula is symmetric, its rounding is not.

    In float32 the result can be negative, and differs between machines in the fourth digit (roots of tiny singular
    values); `eval.distances.frechet` is the exact value. Raises UserError as that does.
    """
    precision = {"float32": torch.float32, "float64": torch.float64}[dtype]
    first, second = (torch.from_numpy(value).to(precision) for value in two_sets(x, y, "Frechet distance"))
    mean = torch.sum((first.mean(dim=0) - second.mean(dim=0)) ** 2)
    cov_x, cov_y = _covariance(first, ddof), _covariance(second, ddof)
    root = _symmetric_root(cov_x)
    middle = torch.trace(_symmetric_root(root @ (cov_y @ root)))
    return float(torch.trace(cov_x + cov_y) - 2 * middle + mean)


def _covariance(x: Tensor, ddof: int) -> Tensor:
    """The covariance (d, d) of x (n, d), in its own precision."""
    centred = x.T - x.T.mean(dim=1, keepdim=True)
    return (centred @ centred.T) * (1 / (len(x) - ddof))


def _symmetric_root(matrix: Tensor) -> Tensor:
    u, s, vt = torch.linalg.svd(matrix)
    return u @ torch.diag(torch.where(s < SMALLEST_ROOTED, s, s.sqrt())) @ vt
