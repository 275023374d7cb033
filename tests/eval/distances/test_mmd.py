"""Polynomial MMD by hand, against the printed examples of JEDi's code and torchmetrics' kernel distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from eval.distances.make import make_distance, resample
from eval.distances.mmd import polynomial_mmd
from eval.protocol_settings import load_protocol
from mobilevd.errors import UserError

A = np.arange(1, 10).reshape(3, 3)
B = np.array([[7, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]])


def test_jedis_own_examples() -> None:
    """The number that its mmd_polynomial.py states for these two sets."""
    assert polynomial_mmd(A, B, degree=2, coef0=0, biased=True) == pytest.approx(270.7, abs=0.05)
    # The code it adapts states this one, with gamma 1 (jindongwang/transferlearning, mmd_numpy_sklearn.py).
    assert polynomial_mmd(A, B, degree=2, gamma=1, coef0=0, biased=True) == pytest.approx(2436.5, abs=0.05)


def test_jedi_is_a_hundred_times_that() -> None:
    distance = make_distance(load_protocol("jedi").distance)
    assert distance(A, B) == pytest.approx(100 * polynomial_mmd(A, B, degree=2, coef0=0, biased=True))
    assert distance(A, A) == pytest.approx(0, abs=1e-9)


def test_degree_2_is_the_distance_of_second_moments() -> None:
    """With coef0 0 and degree 2, k(a, b) = <a a^T, b b^T> / d^2: the MMD is |E a a^T - E b b^T|_F^2 / d^2."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(30, 6)) + 0.5
    difference = x.T @ x / 40 - y.T @ y / 30
    assert polynomial_mmd(x, y, degree=2, coef0=0, biased=True) == pytest.approx(np.sum(difference**2) / 36, rel=1e-10)


def test_unbiased_equals_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 8)), 1.2 * rng.normal(size=(50, 8))
    due = poly_mmd(torch.from_numpy(x), torch.from_numpy(y), degree=3, gamma=None, coef=1.0)
    assert polynomial_mmd(x, y) == pytest.approx(float(due), rel=1e-10)
    assert polynomial_mmd(x[:25], y) == pytest.approx(pairs(x[:25], y), rel=1e-10)  # sets of two sizes


def pairs(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. 2018, equation (4), pair by pair."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    def within(s: np.ndarray) -> float:
        n = len(s)
        return sum(k(s[i], s[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    return within(x) + within(y) - 2 * float(np.mean([k(a, b) for a in x for b in y]))


def test_large_sets_are_taken_in_parts() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(1500, 4)), rng.normal(size=(1100, 4))
    kernel = lambda a, b: (a @ b.T / 4) ** 2  # noqa: E731
    due = kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()
    assert polynomial_mmd(x, y, degree=2, coef0=0, biased=True) == pytest.approx(due, rel=1e-9)


def test_sets_drawn_anew_are_those_that_the_same_clips_would_give() -> None:
    """JEDi's resamples against its distance of each drawn set, clips that were drawn twice included."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(1100, 3)), rng.normal(size=(30, 3)) + 0.3  # x in two parts
    settings = load_protocol("jedi").distance
    draws, distance = np.random.default_rng(7), make_distance(settings)
    due = [distance(x[draws.integers(len(x), size=len(x))], y) for _ in range(4)]
    np.testing.assert_allclose(resample(settings, x, y, 4, seed=7), due, rtol=1e-9)


def test_bad_input() -> None:
    with pytest.raises(UserError, match="polynomial MMD: x has 3 features per sample, y has 2"):
        polynomial_mmd(A, B[:, :2])
    with pytest.raises(UserError, match="at least 2 samples"):
        polynomial_mmd(A[:1], B)
