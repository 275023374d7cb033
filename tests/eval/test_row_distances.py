"""A row's distances with their intervals, and two rows in pairs."""

import numpy as np
import pytest
import scipy.linalg

from eval.distances.frechet import frechet_distance
from eval.distances.mmd import polynomial_mmd
from eval.interval import DEVIATIONS, RESAMPLES, distance_interval, paired_difference
from eval.row_distances import DISTANCE, KERNEL, RowFeatures, compare_rows, remarks_on, row_distances
from eval.summary import summarize
from mobilevd.errors import UserError

CLIPS, FEATURES = 48, 6


def drawn(seed: int, sets: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(sets, CLIPS, FEATURES))


REFERENCE = np.random.default_rng(99).normal(size=(200, FEATURES))


def row(features: np.ndarray, name: str) -> tuple[dict, RowFeatures]:
    figures, kept = row_distances(features, REFERENCE)
    return {"name": name, **figures}, kept


def test_one_set_has_the_distances_of_its_clips() -> None:
    features = drawn(0)
    figures, kept = row_distances(features, REFERENCE)
    assert figures["distance"] == pytest.approx(frechet_distance(features[0], REFERENCE), rel=1e-12)
    assert figures["kernel_distance"] == pytest.approx(polynomial_mmd(features[0], REFERENCE), rel=1e-12)
    found = figures["distance"], figures["distance_low"], figures["distance_high"]
    assert found == pytest.approx(distance_interval(features[0], REFERENCE), rel=1e-12)
    assert "distance_deviation" not in figures and "distance_infinite" not in figures
    assert kept.features.dtype == np.float32 and kept.resampled[KERNEL].shape == (RESAMPLES,)


def test_several_sets_have_a_mean_and_a_deviation() -> None:
    features = drawn(1, sets=3)
    figures, kept = row_distances(features, REFERENCE, extrapolate=True)
    each = [frechet_distance(x, REFERENCE) for x in features]
    assert figures["distances"] == pytest.approx(each, rel=1e-12)
    assert figures["distance"] == pytest.approx(sum(each) / 3, rel=1e-12)
    mean = sum(each) / 3
    assert figures["distance_deviation"] == pytest.approx((sum((d - mean) ** 2 for d in each) / 2) ** 0.5, rel=1e-9)
    assert figures["distance_infinite"] < figures["distance"]
    # sample r holds the same clips in every set, by hand
    rng = np.random.default_rng(0)
    draw = rng.integers(CLIPS, size=CLIPS)
    by_hand = np.mean([frechet_distance(x[draw], REFERENCE) for x in features])
    assert kept.resampled[DISTANCE][0] == pytest.approx(by_hand, rel=1e-9)


def test_pairs_see_differences_that_separate_intervals_do_not() -> None:
    """The second row is the first, moved a little: each interval is wide, and that of the difference narrow."""
    first, second = drawn(2) + 1.0, drawn(2) + 1.1
    one, two = row(first, "a"), row(second, "b")
    assert two[0]["distance_low"] < one[0]["distance_high"], "apart, they cannot be told from each other"
    compared = compare_rows(one[0], two[0], [one[1], two[1]])
    assert compared["rows"] == ["a", "b"] and not compared["distance"]["equal_within_noise"]
    difference = two[0]["distance"] - one[0]["distance"]
    assert compared["distance"]["difference"] == pytest.approx(difference) and compared["distance"]["low"] > 0
    back = compare_rows(two[0], one[0], [two[1], one[1]])["distance"]
    assert back["difference"] == pytest.approx(-difference) and back["high"] == pytest.approx(
        -compared["distance"]["low"]
    )


def test_equal_rows_are_equal_within_noise() -> None:
    told = 0
    for seed in range(10):
        one, two = row(drawn(seed), "a"), row(drawn(1000 + seed), "b")
        told += not compare_rows(one[0], two[0], [one[1], two[1]])["distance"]["equal_within_noise"]
    assert told <= 3  # 5 % of 10; more than 3 have a chance of 0.1 %
    same = row(drawn(5), "a")
    compared = compare_rows(same[0], same[0], [same[1], same[1]])["distance"]
    assert compared == {"difference": 0.0, "low": 0.0, "high": 0.0, "equal_within_noise": True}


def test_the_interval_of_a_difference_by_hand() -> None:
    found = paired_difference(3.0, 5.0, np.array([3.0, 3.5, 4.0]), np.array([5.0, 6.5, 8.0]))
    spread = DEVIATIONS * 1.0  # of 2, 3 and 4
    assert (found.difference, found.low, found.high) == pytest.approx((2.0, 2 - spread, 2 + spread))
    assert (
        not found.is_within_noise
        and paired_difference(1.0, 1.5, np.array([1.0, 2]), np.array([2.0, 1])).is_within_noise
    )


def test_rows_of_other_numbers_of_clips_are_no_pairs() -> None:
    one, two = row(drawn(0), "a"), row(drawn(0)[:, :40], "b")
    with pytest.raises(UserError, match="a and b: 1 sets of 48 and 1 sets of 40 clips cannot be compared in pairs"):
        compare_rows(one[0], two[0], [one[1], two[1]])


def test_few_clips_are_remarked_on() -> None:
    assert remarks_on(64, 384, 32, "FD-motion", False) == []
    few, many = remarks_on(96, 300, 400, "FVD", False)
    assert "96 generated clips of a row are no more than the 400 features" in few and "FVD is far above" in few
    assert few.endswith("raise evaluation.clips: above 400") and "300 reference clips" in many
    assert remarks_on(64, 384, 32, "FD-motion", True) == [
        "evaluation.extrapolate: 64 clips are too few for 32 features; 66 are needed"
    ]


def test_features_that_are_no_numbers_name_their_clip() -> None:
    class Broken:
        name, distance_name, sha256, protocol = "broken", "FD-broken", "0" * 64, {}
        ddof = 1

        def __call__(self, clips: np.ndarray) -> np.ndarray:
            features = np.ones((len(clips), 2))
            features[1, 0], features[3, 1] = np.nan, np.inf
            return features

    clips = np.zeros((5, 2, 8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="real: b.mp4: its features of FD-broken are NaN .*; 1 more of these 5"):
        summarize(clips, Broken(), what="real", names=[f"{letter}.mp4" for letter in "abcde"])
    with pytest.raises(UserError, match="clips: clip 2 of 5: its features"):
        summarize(clips, Broken())


def test_covariances_are_over_the_number_that_is_asked_for() -> None:
    rng = np.random.default_rng(5)
    features, reference = rng.normal(size=(1, 9, 3)), rng.normal(size=(12, 3))
    for ddof in (0, 1):
        figures, _ = row_distances(features, reference, extrapolate=True, ddof=ddof)
        covariances = [np.cov(x.T, ddof=ddof) for x in (features[0], reference)]
        root = np.real(np.asarray(scipy.linalg.sqrtm(covariances[0] @ covariances[1])))
        mean = features[0].mean(0) - reference.mean(0)
        expected = mean @ mean + np.trace(covariances[0] + covariances[1] - 2 * root)
        assert figures["distance"] == pytest.approx(expected, rel=1e-9)
        assert figures["distance_low"] < expected < figures["distance_high"]
