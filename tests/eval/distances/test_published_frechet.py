"""The Frechet distances of the protocols against the arithmetic of the code that they are named after."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch

from eval.distances.frechet import frechet_distance, resampled_distances
from eval.distances.make import make_distance
from eval.distances.svd_frechet import svd_frechet_distance
from eval.protocol_settings import load_protocol


def features(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features of the size of I3D's logits, in float32 as networks give them."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) / np.sqrt(d)
    x = 3 * rng.normal(size=(n, d)) @ mix + 1
    y = 3.5 * rng.normal(size=(m, d)) @ mix + rng.normal(size=d) * 0.3
    return x.astype(np.float32), y.astype(np.float32)


def matrix_root(matrix: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a singular matrix is among the tests
        return np.real(np.asarray(scipy.linalg.sqrtm(matrix)))


def stylegan_v(generated: np.ndarray, real: np.ndarray) -> float:
    """StyleGAN-V, and cd-fvd: moments over n from raw sums, then scipy's root of the product."""
    moments = []
    for x in (generated.astype(np.float64), real.astype(np.float64)):
        mean = x.sum(axis=0) / len(x)
        moments.append((mean, x.T @ x / len(x) - np.outer(mean, mean)))
    (mean_g, cov_g), (mean_r, cov_r) = moments
    return float(np.square(mean_g - mean_r).sum() + np.trace(cov_g + cov_r - 2 * matrix_root(cov_g @ cov_r)))


def np_cov(generated: np.ndarray, real: np.ndarray) -> float:
    """common_metrics' StyleGAN-V: numpy's covariance, over n - 1."""
    cov_g, cov_r = np.cov(generated, rowvar=False), np.cov(real, rowvar=False)
    mean = generated.astype(np.float64).mean(0) - real.astype(np.float64).mean(0)
    return float(mean @ mean + np.trace(cov_g + cov_r - 2 * matrix_root(cov_g @ cov_r)))


def tfgan(first: np.ndarray, second: np.ndarray, dtype: torch.dtype) -> float:
    """tfgan's trace_sqrt_product, in torch: VideoGPT's float32, TensorFlow's float64.

    In float32 the order of operations shows in the fourth digit (torch.cov instead of this product: 536.05 for 536.13).
    """

    def root(matrix: torch.Tensor) -> torch.Tensor:
        u, s, v = torch.svd(matrix)
        return u @ torch.diag(torch.where(s < 1e-10, s, s.sqrt())) @ v.T

    def covariance(x: torch.Tensor) -> torch.Tensor:
        m = x.t() - torch.mean(x.t(), dim=1, keepdim=True)
        return 1.0 / (m.size(1) - 1) * m.matmul(m.t())

    x, y = (torch.from_numpy(value).to(dtype) for value in (first, second))
    cov_x, cov_y = covariance(x), covariance(y)
    a = root(cov_x)
    trace = torch.trace(cov_x + cov_y) - 2 * torch.trace(root(a @ (cov_y @ a)))
    return float(trace + (x.mean(0) - y.mean(0)).square().sum())


REFERENCES = {
    "stylegan-v": (stylegan_v, 1e-8),
    "mobilevd-7fps": (stylegan_v, 1e-8),
    "cd-fvd-i3d": (stylegan_v, 1e-8),
    "cd-fvd-videomae": (stylegan_v, 1e-8),
    "common-metrics-styleganv": (np_cov, 1e-8),
    "motion": (np_cov, 1e-8),
    "google": (lambda generated, real: tfgan(real, generated, torch.float64), 1e-10),
    "videogpt": (lambda generated, real: tfgan(generated, real, torch.float32), 1e-5),
    "common-metrics": (lambda generated, real: tfgan(generated, real, torch.float32), 1e-5),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_enough_samples(name: str) -> None:
    reference, tolerance = REFERENCES[name]
    x, y = features(260, 300, 60)
    assert make_distance(load_protocol(name).distance)(x, y) == pytest.approx(reference(x, y), rel=tolerance)


@pytest.mark.parametrize("name", REFERENCES)
def test_fewer_samples_than_features(name: str) -> None:
    """Singular covariances, as 256 clips against 400 logits give; the roots of zero are the references' own noise."""
    reference, tolerance = REFERENCES[name]
    x, y = features(40, 30, 64)
    tolerance = 1e-4 if reference in (stylegan_v, np_cov) else tolerance
    assert make_distance(load_protocol(name).distance)(x, y) == pytest.approx(reference(x, y), rel=tolerance)


def test_biased_covariances_are_the_unbiased_times_their_ratio() -> None:
    """With equal n and equal means, the distance is linear in the covariances."""
    x, y = features(50, 50, 8)
    x, y = x - x.mean(0), y - y.mean(0)
    assert frechet_distance(x, y, ddof=0) == pytest.approx(frechet_distance(x, y) * 49 / 50, rel=1e-6)
    assert svd_frechet_distance(x, y, ddof=0) == pytest.approx(frechet_distance(x, y, ddof=0), rel=1e-8)


def test_resampling_takes_the_same_covariance() -> None:
    x, y = features(20, 20, 3)
    biased, unbiased = (resampled_distances(x, y, 5, ddof=ddof) for ddof in (0, 1))
    assert (biased != unbiased).all()


def test_float32_loses_what_float64_keeps() -> None:
    """Why videogpt is a protocol of its own: for equal sets its rounding alone is far above the other's."""
    x, _ = features(300, 300, 100)
    x = 100 * x
    assert abs(svd_frechet_distance(x, x, dtype="float32")) > 100 * abs(svd_frechet_distance(x, x)) + 1e-3
    assert frechet_distance(x, x) < 1e-9
