"""The figure of a named protocol from features: the distance, its interval, and the record of how it was made."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.distances.make import make_distance, resample
from eval.domain import outside_domain
from eval.features import FeatureExtractor
from eval.few_clips import singular_covariance
from eval.interval import RESAMPLES, half_width
from eval.protocol_settings import FrechetSettings, ProtocolSettings
from eval.record import protocol_record

MANY_FEATURES, FEWER_RESAMPLES = 512, 50
"""With more features a Frechet distance takes seconds; a deviation from 50 of them is right to 10 %."""


def protocol_figures(
    settings: ProtocolSettings,
    extractor: FeatureExtractor,
    generated: np.ndarray,
    real: np.ndarray,
    *,
    form: tuple[int, int, int],
    fps: float | None,
    seed: int = 0,
) -> dict[str, Any]:
    """The distance between features of generated (n, d) and of real clips (m, d), `low` and `high` of its 95 % interval
    for other generated clips, `remarks` on too few and on strange clips, and its record (`eval.record`).

    `extractor` is that of `load_protocol_extractor`; `form` is frames, height and width of the clips. Raises UserError
    for fewer than 2 clips and features that are no numbers.
    """
    value = make_distance(settings.distance)(generated, real)
    features = generated.shape[1]
    resamples = RESAMPLES if features <= MANY_FEATURES else FEWER_RESAMPLES
    spread = half_width(resample(settings.distance, generated, real, resamples, seed))
    frechet = isinstance(settings.distance, FrechetSettings)
    sets = (("generated clips", generated), ("real clips", real))
    few = [singular_covariance(len(clips), what, features, settings.distance_name) for what, clips in sets if frechet]
    found = [*few, *(outside_domain(extractor, clips, what) for what, clips in sets)]
    return {
        "distance": value,
        "low": max(0.0, value - spread) if frechet else value - spread,
        "high": value + spread,
        "distance_name": settings.distance_name,
        "remarks": [remark for remark in found if remark],
        **protocol_record(settings, extractor, value, generated=len(generated), real=len(real), form=form, fps=fps),
    }
