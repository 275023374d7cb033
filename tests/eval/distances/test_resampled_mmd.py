"""The kernel distance against its definition, and its expectation in closed form."""

import numpy as np
import pytest

from eval.distances.mmd import polynomial_mmd, resampled_mmd
from mobilevd.errors import UserError


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Gretton et al. 2012, equation 3, pair by pair."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_it_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), 1 + rng.normal(size=(7, 3))
    assert polynomial_mmd(x, y) == pytest.approx(by_definition(x, y), rel=1e-12)


@pytest.mark.parametrize("clips", [3, 40])
def test_its_mean_is_that_of_infinitely_many_clips(clips: int) -> None:
    """One feature, x of mean m and variance 1, y of mean 0: E (x x' + 1)^3 from the moments of normal distributions.

    With x' independent of x, E x^k E x'^k are squares of moments: 1 + 3 E[x]^2 + 3 E[x^2]^2 + E[x^3]^2.
    """
    m = 0.7
    first, second, third = (m, m * m + 1, m**3 + 3 * m), (0.0, 1.0, 0.0), np.array([3.0, 3.0, 1.0])
    expected = float(third @ (np.array(first) - np.array(second)) ** 2)
    rng = np.random.default_rng(clips)
    found = [polynomial_mmd(m + rng.normal(size=(clips, 1)), rng.normal(size=(50, 1))) for _ in range(1500)]
    assert np.mean(found) == pytest.approx(expected, abs=4 * float(np.std(found)) / np.sqrt(len(found)))


def test_resampled_sets_spread_as_new_ones_do() -> None:
    """And around the distance itself: a clip drawn twice is no pair (the Frechet distance's resamples lie above)."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 8))
    new = [0.5 + rng.normal(size=(100, 8)) for _ in range(60)]
    spreads = [resampled_mmd(x, y, 100).std() for x in new[:20]]
    assert np.mean(spreads) == pytest.approx(np.std([polynomial_mmd(x, y) for x in new]), rel=0.25)
    x = new[0]
    resampled = resampled_mmd(x, y, 400)
    assert resampled.mean() == pytest.approx(polynomial_mmd(x, y), abs=4 * resampled.std() / 20)
    np.testing.assert_array_equal(resampled, resampled_mmd(x, y, 400))


def test_two_clips_that_are_drawn_as_one_leave_a_number() -> None:
    rng = np.random.default_rng(0)
    assert np.isfinite(resampled_mmd(rng.normal(size=(2, 3)), rng.normal(size=(5, 3)), 50)).all()


def test_wrong_features_are_told() -> None:
    good = np.zeros((4, 3))
    for x, message in (
        (np.zeros((1, 3)), r"x must hold at least 2 samples of 1 feature, got \(1, 3\)"),
        (np.zeros((4, 2)), "x has 2 features per sample, y has 3"),
        (np.full((4, 3), np.nan), "x has NaN"),
    ):
        with pytest.raises(UserError, match=message):
            polynomial_mmd(x, good)
