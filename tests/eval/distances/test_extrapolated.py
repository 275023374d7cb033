"""The extrapolation to infinitely many clips, where the distance of infinitely many is known."""

import numpy as np
import pytest

from eval.distances.extrapolated import clips_needed, extrapolated_distance
from eval.distances.frechet import frechet_distance
from mobilevd.errors import UserError

FEATURES = 8


def test_it_is_nearer_to_the_truth_than_the_distance_itself() -> None:
    """Gaussians of deviations 0.8 and 1 and means 0.5 apart: d (0.5^2 + 0.2^2) in d features (Dowson and Landau)."""
    truth = FEATURES * (0.5**2 + 0.2**2)
    rng = np.random.default_rng(0)
    corners = np.eye(FEATURES) * np.sqrt((2 * FEATURES - 1) / 2)
    reference = np.concatenate([corners, -corners])  # of mean 0 and covariance 1 exactly
    sets = [0.5 + 0.8 * rng.normal(size=(64, FEATURES)) for _ in range(20)]
    plain = float(np.mean([frechet_distance(x, reference) for x in sets])) - truth
    extrapolated = float(np.mean([extrapolated_distance(x, reference) for x in sets])) - truth
    assert plain > 0.15 and abs(extrapolated) < 0.6 * plain


def test_a_line_in_one_over_n_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.distances.extrapolated.frechet_distance", lambda x, _, ddof: 7.0 + 30.0 / len(x))
    assert extrapolated_distance(np.zeros((100, 3)), np.zeros((5, 3))) == pytest.approx(7.0, rel=1e-9)


def test_too_few_clips_are_told() -> None:
    assert clips_needed(FEATURES) == 18
    with pytest.raises(UserError, match="17 clips: an extrapolation from 8 features needs at least 18"):
        extrapolated_distance(np.zeros((17, FEATURES)), np.zeros((30, FEATURES)))
