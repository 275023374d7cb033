"""The Frechet distance by the ways that public code takes, written here from that code's arithmetic.

Each maps the features of generated (n, d) and of real clips (m, d) to the number. `ddof` says over what the covariance
of a way is, so that each is held against its own answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torchmetrics.image.fid import _compute_fid

from eval.distances.frechet import frechet_distance
from eval.distances.svd_frechet import svd_frechet_distance

Way = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class PublishedWay:
    name: str
    compute: Way
    ddof: int


def _root_of_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """scipy's root as the published code calls it, but without `disp=False`, which scipy 1.18 takes away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of singular products, which the published calls silence too
        return np.asarray(scipy.linalg.sqrtm(a @ b))


def _trace_formula(mean: np.ndarray, cov_x: np.ndarray, cov_y: np.ndarray) -> float:
    return float(np.real(np.square(mean).sum() + np.trace(cov_x + cov_y - 2 * _root_of_product(cov_x, cov_y))))


def raw_moments(generated: np.ndarray, real: np.ndarray) -> float:
    """StyleGAN-V and cd-fvd: float32 features, sums of products in float64, over n."""

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = x.astype(np.float32).astype(np.float64)
        mean = x.sum(axis=0) / len(x)
        return mean, x.T @ x / len(x) - np.outer(mean, mean)

    (mean_g, cov_g), (mean_r, cov_r) = moments(generated), moments(real)
    return _trace_formula(mean_g - mean_r, cov_g, cov_r)


def numpy_covariance(generated: np.ndarray, real: np.ndarray) -> float:
    """common_metrics_on_video_quality, method "styleganv"; it collects float32 features in a float64 array."""
    generated, real = generated.astype(np.float64), real.astype(np.float64)
    cov_g, cov_r = np.cov(generated, rowvar=False), np.cov(real, rowvar=False)
    return _trace_formula(generated.mean(axis=0) - real.mean(axis=0), cov_g, cov_r)


def torchmetrics_fid(generated: np.ndarray, real: np.ndarray) -> float:
    """torchmetrics: float64 sums, eigenvalues of the product of the covariances."""

    def moments(x: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.from_numpy(x).double()
        mean = y.sum(dim=0) / len(y)
        return mean, (y.T @ y - len(y) * torch.outer(mean, mean)) / (len(y) - 1)

    return float(_compute_fid(*moments(real), *moments(generated)))


WAYS = (
    PublishedWay("mobilevd, exact", frechet_distance, 1),
    PublishedWay("mobilevd, exact, over n", lambda g, r: frechet_distance(g, r, ddof=0), 0),
    PublishedWay("StyleGAN-V and cd-fvd (raw moments, scipy sqrtm)", raw_moments, 0),
    PublishedWay("common_metrics styleganv (np.cov, scipy sqrtm)", numpy_covariance, 1),
    PublishedWay("torchmetrics FID (eigenvalues)", torchmetrics_fid, 1),
    PublishedWay("tfgan (float64 singular values)", lambda g, r: svd_frechet_distance(r, g), 1),
    PublishedWay("VideoGPT (float32 singular values)", lambda g, r: svd_frechet_distance(g, r, dtype="float32"), 1),
)
