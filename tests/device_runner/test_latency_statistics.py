"""Percentiles and summaries against numpy and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_runner.errors import RunnerError
from device_runner.statistics import PERCENTILES, percentile, summarize

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
