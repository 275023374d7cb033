"""All distances of a row of the table, with intervals; and of two rows, with the interval of their difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.distances.extrapolated import clips_needed, extrapolated_distance
from eval.distances.frechet import frechet_distance, resampled_distances
from eval.distances.mmd import polynomial_mmd, resampled_mmd
from eval.few_clips import singular_covariance
from eval.interval import RESAMPLES, half_width, paired_difference
from mobilevd.errors import UserError

DISTANCE, KERNEL = "distance", "kernel_distance"
MEASURES = {
    DISTANCE: (frechet_distance, resampled_distances),
    KERNEL: (polynomial_mmd, resampled_mmd),
}
"""Key of a distance -> the distance of two sets of features, and those of bootstrap samples of the first."""


@dataclass(frozen=True)
class RowFeatures:
    """What is kept of a row's clips, so that the row can be compared with others.

    Attributes:
        features: (S, n, D), of S sets of n clips; the sets have the same first frames and other noise.
        resampled: key of a distance -> (R,), that of each bootstrap sample: the mean over sets, of the same clips in all.
    """

    features: np.ndarray
    resampled: Mapping[str, np.ndarray]


def row_distances(
    features: np.ndarray, reference: np.ndarray, extrapolate: bool = False, ddof: int = 1
) -> tuple[dict[str, Any], RowFeatures]:
    """The distances of features (S, n, D) to reference features (m, D), and what is to be kept of them.

    Each is the mean over the S sets, with `..._low` and `..._high`, its 95 % interval for other clips from as many first
    frames. More than one set adds `distance_deviation`, from set to set, and `distances`; `extrapolate` adds
    `distance_infinite` (`extrapolated_distance`). Covariances are over n - ddof clips.
    """
    figures: dict[str, Any] = {}
    resampled: dict[str, np.ndarray] = {}
    for key, (measure, resample) in MEASURES.items():
        options = {"ddof": ddof} if key == DISTANCE else {}
        values = [measure(each, reference, **options) for each in features]
        resampled[key] = np.mean([resample(each, reference, RESAMPLES, **options) for each in features], axis=0)
        value, spread = float(np.mean(values)), half_width(resampled[key])
        # only the kernel distance, an unbiased estimate, may be below 0
        low = value - spread if key == KERNEL else max(0.0, value - spread)
        figures |= {key: value, f"{key}_low": low, f"{key}_high": value + spread}
        if key == DISTANCE and len(values) > 1:
            figures |= {"distance_deviation": float(np.std(values, ddof=1)), "distances": values}
    if extrapolate and features.shape[1] >= clips_needed(features.shape[2]):
        infinite = [extrapolated_distance(each, reference, ddof=ddof) for each in features]
        figures["distance_infinite"] = float(np.mean(infinite))
    return figures, RowFeatures(features.astype(np.float32), resampled)


def compare_rows(first: Mapping[str, Any], second: Mapping[str, Any], kept: Sequence[RowFeatures]) -> dict[str, Any]:
    """How much larger the second row's distances are: key -> difference, low, high, and whether it is within noise.

    `kept` is of both. UserError unless they are of as many clips: their first frames are others then.
    """
    shapes = [each.features.shape[:2] for each in kept]
    if shapes[0] != shapes[1]:
        sizes = " and ".join(f"{sets} sets of {clips}" for sets, clips in shapes)
        raise UserError(f"{first['name']} and {second['name']}: {sizes} clips cannot be compared in pairs")
    compared: dict[str, Any] = {"rows": [first["name"], second["name"]]}
    for key in MEASURES:
        samples = [each.resampled[key] for each in kept]
        found = paired_difference(first[key], second[key], *samples)
        compared[key] = {
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "equal_within_noise": found.is_within_noise,
        }
    return compared


def remarks_on(clips: int, reference: int, features: int, distance_name: str, extrapolate: bool) -> list[str]:
    """What numbers of clips do to the distances, where it matters: a line each."""
    sets = (
        (clips, "generated clips of a row", "raise evaluation.clips"),
        (reference, "reference clips", "add videos to compare with"),
    )
    found = [singular_covariance(count, what, features, distance_name, remedy) for count, what, remedy in sets]
    remarks = [remark for remark in found if remark]
    if extrapolate and clips < clips_needed(features):
        remarks.append(
            f"evaluation.extrapolate: {clips} clips are too few for {features} features; {clips_needed(features)} are "
            "needed"
        )
    return remarks
