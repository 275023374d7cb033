"""The Frechet distance against closed forms, high-precision arithmetic and its own mathematical properties."""

import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eval import frechet_distance
from mobilevd.errors import UserError


def exact_samples(mean: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """2d samples whose mean and unbiased covariance are exactly `mean` and diag(deviations^2)."""
    d = len(mean)
    spread = np.diag(deviations) * np.sqrt((2 * d - 1) / 2)
    return mean + np.concatenate([spread, -spread])


def reference_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook formula by eigenvalues of S_x^(1/2) S_y S_x^(1/2), in 60 digits."""
    with mpmath.workdps(60):
        moments = []
        for value in (x, y):
            matrix = mpmath.matrix(value.tolist())
            n, d = matrix.rows, matrix.cols
            mean = [mpmath.fsum(matrix[i, j] for i in range(n)) / n for j in range(d)]
            centred = mpmath.matrix(n, d)
            for i in range(n):
                for j in range(d):
                    centred[i, j] = matrix[i, j] - mean[j]
            moments.append((mean, centred.T * centred / (n - 1)))
        (mean_x, cov_x), (mean_y, cov_y) = moments
        values, vectors = mpmath.eigsy(cov_x)
        root = vectors * mpmath.diag([mpmath.sqrt(max(v, mpmath.mpf(0))) for v in values]) * vectors.T
        product = root * cov_y * root
        middle = mpmath.fsum(mpmath.sqrt(max(v, mpmath.mpf(0))) for v in mpmath.eigsy((product + product.T) / 2)[0])
        trace = mpmath.fsum(cov_x[i, i] + cov_y[i, i] for i in range(cov_x.rows))
        return float(mpmath.fsum((a - b) ** 2 for a, b in zip(mean_x, mean_y, strict=True)) + trace - 2 * middle)


def test_diagonal_gaussians_closed_form() -> None:
    rng = np.random.default_rng(0)
    mean_x, mean_y = rng.normal(size=(2, 7))
    dev_x, dev_y = rng.uniform(0.1, 3, size=(2, 7))
    expected = np.sum((mean_x - mean_y) ** 2) + np.sum((dev_x - dev_y) ** 2)
    x, y = exact_samples(mean_x, dev_x), exact_samples(mean_y, dev_y)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-13)


def test_one_dimension_by_hand() -> None:
    # Deviations sqrt(2) and 2 sqrt(2), means 1 and 4: (1 - 4)^2 + (sqrt 2 - 2 sqrt 2)^2 = 9 + 2.
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[2.0], [6.0]])) == pytest.approx(11.0, rel=1e-14)


@pytest.mark.parametrize(("n", "m", "d"), [(12, 9, 4), (4, 15, 6), (3, 3, 5), (2, 7, 3)])
def test_against_high_precision(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(n * 100 + m * 10 + d)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    y = rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + 0.3
    assert frechet_distance(x, y) == pytest.approx(reference_distance(x, y), rel=1e-12)


def test_against_scipy_matrix_square_root() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(500, 24)), 1.5 * rng.normal(size=(400, 24)) + 0.2
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = np.real(np.asarray(scipy.linalg.sqrtm(cov_x @ cov_y)))
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cov_x + cov_y - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scale", [1e-120, 1.0, 1e3, 1e8])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_identity_of_16_samples_in_400_dimensions(scale: float, offset: float) -> None:
    x = scale * (np.random.default_rng(1).normal(size=(16, 400)) + offset)
    assert 0 <= frechet_distance(x, x.copy()) < 1e-9 * max(scale, 1e-300) ** 2
    assert 0 <= frechet_distance(x, x[::-1].copy()) < 1e-9 * max(scale, 1e-300) ** 2


def test_a_difference_far_below_the_traces_is_not_lost() -> None:
    # The trace is 2e8 here; the trace formula would leave a rounding error of about 1e-8 of either sign.
    x, y = (exact_samples(np.zeros(2), np.array([1e4, d])) for d in (1e-3, 2e-3))
    assert frechet_distance(x, y) == pytest.approx(1e-6, rel=1e-4)


def test_the_cost_is_bounded_by_the_smaller_of_samples_and_dimensions() -> None:
    x = np.random.default_rng(0).normal(size=(8, 60_000))  # its 60,000 x 60,000 covariance would take 29 GB
    assert frechet_distance(x, x + 1) == pytest.approx(60_000, rel=1e-9)


SAMPLES = arrays(np.float64, st.tuples(st.integers(2, 9), st.just(5)), elements=st.floats(-100, 100, width=32))


@settings(max_examples=80, deadline=None)
@given(SAMPLES, SAMPLES, st.integers(0, 1000))
def test_properties(x: np.ndarray, y: np.ndarray, seed: int) -> None:
    distance = frechet_distance(x, y)

    def close(expected: float) -> object:
        return pytest.approx(expected, rel=1e-8, abs=1e-8)

    assert distance >= 0
    assert frechet_distance(y, x) == close(distance)
    assert frechet_distance(x, x) < 1e-9
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    assert frechet_distance(x @ rotation, y @ rotation) == close(distance)
    assert frechet_distance(rng.permutation(x), y) == close(distance)
    shift = rng.normal(size=5)
    assert frechet_distance(x + shift, x) == close(np.sum(shift**2))
    assert frechet_distance(4 * x, 4 * y) == pytest.approx(16 * distance, rel=1e-8, abs=1e-6)


def test_float32_and_integers_are_computed_in_float64() -> None:
    x = np.random.default_rng(0).integers(0, 50, size=(20, 6))
    y = np.random.default_rng(1).integers(0, 50, size=(20, 6))
    assert frechet_distance(x.astype(np.float32), y.astype(np.float32)) == frechet_distance(x, y)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "at least 2 samples"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "x has 3 features per sample, y has 2"),
        (np.zeros((4, 3, 1)), np.zeros((4, 3)), r"x must be real features \(n, d\)"),
        (np.zeros((4, 3)), np.array([[0, np.nan, 1]] * 2 + [[0.0] * 3]), "y has NaN or infinity in 2 of 3 samples"),
        (np.array([[0.0], [np.inf]]), np.zeros((4, 1)), "x has NaN or infinity in 1 of 2 samples"),
        (np.zeros((2, 2), complex), np.zeros((2, 2)), "complex"),
    ],
)
def test_bad_input(x: np.ndarray, y: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=said):
        frechet_distance(x, y)
