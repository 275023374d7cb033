"""Percentiles, summaries and intervals against numpy, scipy and by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from device_runner.errors import RunnerError
from device_runner.protocol.statistics import PERCENTILES, median_half_width, median_interval, percentile, summarize

latencies = st.lists(st.floats(0, 1e6), min_size=1, max_size=60)


@settings(deadline=None)  # a busy machine is no failure
@given(latencies, st.integers(0, 100))
def test_percentiles_are_those_of_numpy(samples: list[float], p: int) -> None:
    assert percentile(samples, p) == pytest.approx(np.percentile(samples, p), rel=1e-12, abs=1e-9)


@settings(deadline=None)  # a busy machine is no failure
@given(latencies)
def test_summary_agrees_with_numpy(samples: list[float]) -> None:
    summary = summarize(samples)
    assert summary["n"] == len(samples)
    assert summary["mean"] == pytest.approx(np.mean(samples), rel=1e-9, abs=1e-9)
    expected_std = np.std(samples, ddof=1) if len(samples) > 1 else 0.0
    assert summary["std"] == pytest.approx(expected_std, rel=1e-6, abs=1e-6)
    assert (summary["min"], summary["max"]) == (min(samples), max(samples))
    for p in PERCENTILES:
        assert summary[f"p{p}"] == pytest.approx(np.percentile(samples, p), rel=1e-12, abs=1e-9)


def test_drift_shows_a_device_that_slows_down() -> None:
    assert summarize([10, 10, 15, 15])["drift"] == 1.5
    assert summarize([10, 10, 99, 5, 5])["drift"] == 0.5  # the middle one is in neither half
    assert summarize([7])["drift"] == 1


@pytest.mark.parametrize("samples", [[], [1.0, -1.0], [1.0, math.nan], [math.inf]])
def test_samples_that_are_no_latencies_are_refused(samples: list[float]) -> None:
    with pytest.raises(RunnerError):
        summarize(samples)


@pytest.mark.parametrize("p", [-1, 101])
def test_percentiles_outside_the_scale_are_refused(p: int) -> None:
    with pytest.raises(RunnerError):
        percentile([1.0], p)


@settings(deadline=None)
@given(latencies)
def test_trimmed_mean_is_that_of_scipy(samples: list[float]) -> None:
    assert summarize(samples)["trimmed_mean"] == pytest.approx(scipy.stats.trim_mean(samples, 0.1), rel=1e-9, abs=1e-9)


def test_variation_is_relative_to_the_mean() -> None:
    samples = [10.0, 12.0, 9.0, 11.0, 30.0]
    assert summarize(samples)["cv"] == pytest.approx(scipy.stats.variation(samples, ddof=1))
    assert summarize([0.0, 0.0])["cv"] == 0


# For example n = 20: floor((20 - 8.765) / 2) = 5 and ceil(1 + (20 + 8.765) / 2) = 16.
@pytest.mark.parametrize(
    ("n", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (20, 5, 16), (50, 18, 33), (100, 40, 61)]
)
def test_median_interval_by_hand(n: int, low: int, high: int) -> None:
    ranks = [float(rank) for rank in range(n, 0, -1)]
    assert median_interval(ranks, effective=n) == (low, high)
    summary = summarize(ranks)  # they fall steadily: as samples that follow one another they are worth few
    assert (summary["median_ci_low"], summary["median_ci_high"]) == median_interval(ranks) == (1, n)


@pytest.mark.parametrize("n", [6, 10, 20, 21, 50, 101])
def test_median_interval_holds_the_median_as_often_as_it_says(n: int) -> None:
    """Exactly: the interval of ranks low to high misses when fewer than low, or at least high, samples lie below."""
    low, high = median_interval([float(rank) for rank in range(1, n + 1)], effective=n)
    binomial = scipy.stats.binom(n, 0.5)
    coverage = binomial.cdf(high - 1) - binomial.cdf(low - 1)
    assert 0.95 <= coverage < 0.999
    if n == 20:  # and by drawing, from a distribution as skewed as latencies are
        drawn = np.random.default_rng(0).lognormal(size=(2000, n))
        intervals = [median_interval(list(samples), effective=n) for samples in drawn]
        assert np.mean([below <= 1 <= above for below, above in intervals]) == pytest.approx(coverage, abs=0.015)


def test_half_width_is_a_share_of_the_median() -> None:
    samples = [float(rank) for rank in np.random.default_rng(0).permutation(np.arange(1, 101))]
    low, high = median_interval(samples)
    assert low <= 40 and high >= 61 and median_half_width(samples) == pytest.approx((high - low) / 2 / 50.5)
    assert median_half_width([7.0] * 6) == 0
    assert median_half_width([7.0] * 5) == math.inf
    assert median_half_width([7.0, 8.0, 9.0, 7.5, 8.5]) == math.inf  # too few to know
    assert median_half_width(sorted(samples)) == math.inf  # one drift
    assert median_half_width([0.0] * 20 + [1.0]) == 0
    with pytest.raises(RunnerError):
        median_half_width([])
