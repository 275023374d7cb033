"""What a series of alike neighbours is worth, against the closed form for autoregressions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from device_runner.protocol.correlation import LEAST_EFFECTIVE, effective_samples
from device_runner.protocol.statistics import median_interval, summarize


def series(seed: int, n: int, rho: float) -> list[float]:
    """A Gaussian autoregression of deviation 1 around 0, in its stationary state."""
    rng = np.random.default_rng(seed)
    values = [rng.normal()]
    for shock in rng.normal(scale=math.sqrt(1 - rho**2), size=n - 1):
        values.append(rho * values[-1] + shock)
    return [float(value) for value in values]


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 0.7, 0.9])
def test_long_series_are_worth_what_the_closed_form_says(rho: float) -> None:
    """n (1 - rho) / (1 + rho) for the mean of an autoregression; a little less is safe, more is not."""
    n = 4000
    worth = np.median([effective_samples(series(seed, n, rho)) for seed in range(5)])
    expected = n * (1 - rho) / (1 + rho)
    assert 0.75 * expected <= worth <= 1.1 * expected


def test_trends_outliers_and_equal_samples() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=200)
    assert effective_samples(list(noise + 0.05 * np.arange(200))) < 10, "a drift"
    assert effective_samples([*([1.0] * 100), *([2.0] * 100)]) < 3, "a step"
    spiked = np.array(series(3, 200, 0.8))
    plain = effective_samples(list(spiked))
    spiked[::10] += 1000
    assert effective_samples(list(spiked)) < 2.5 * plain, "spikes do not hide that the rest is alike"
    assert effective_samples([7.0] * 50) == 50
    assert effective_samples([1.0, 2.0, 3.0]) == 3
    assert 85 < effective_samples([1.0, 2.0] * 50) <= 100, "alternating samples are worth no more than they are"


@pytest.mark.parametrize(("n", "rho"), [(50, 0.0), (50, 0.5), (50, 0.7), (200, 0.7), (200, 0.9)])
def test_the_interval_of_the_median_holds_it(n: int, rho: float) -> None:
    """Where an interval is given, it holds the median nearly as often as it says; of independent formulas, 44 to 84 %."""
    held, given, plain = 0, 0, 0
    for seed in range(300):
        samples = [20 + value for value in series(seed, n, rho)]
        low, high = median_interval(samples, effective=n)
        plain += low <= 20 <= high
        if effective_samples(samples) >= LEAST_EFFECTIVE:
            low, high = median_interval(samples)
            given += 1
            held += low <= 20 <= high
    assert held / given >= 0.93
    assert given >= (250 if rho <= 0.5 or n == 200 else 120)
    if rho >= 0.7:
        assert plain / 300 < 0.8, "what was wrong before"


def test_a_summary_tells_what_its_samples_are_worth() -> None:
    samples = [abs(value) for value in series(1, 50, 0.8)]
    summary = summarize(samples)
    assert summary["effective_n"] == effective_samples(samples) < 25
