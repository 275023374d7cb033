"""The protocols of `mobilevd evaluate`: their clips, and their distances with intervals and records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eval.distances.make import make_distance
from eval.features import FeatureExtractor
from eval.protocol_settings import ProtocolSettings, load_protocol
from eval.record import protocol_record
from eval.resampled import distance_with_interval
from mobilevd.commands.evaluate_clips import ClipForm
from mobilevd.commands.evaluate_settings import EvaluateSettings
from mobilevd.errors import UserError


def load_protocols(names: Sequence[str]) -> dict[str, ProtocolSettings]:
    """The protocols by their names. UserError for an unknown one, or two of one name."""
    found: dict[str, ProtocolSettings] = {}
    for name in names:
        settings = load_protocol(name)
        if settings.name in found:
            raise UserError(f"--protocol {name}: {settings.name} is given twice")
        found[settings.name] = settings
    return found


def with_their_clips(settings: EvaluateSettings, protocols: Mapping[str, ProtocolSettings]) -> EvaluateSettings:
    """Settings that compare the clips the protocols ask for, where the user says nothing else.

    Raises UserError if two protocols ask for different clips: they are read once, for all.
    """

    def asked(option: str, wanted: Mapping[str, Any]) -> Any:
        known = {name: value for name, value in wanted.items() if value is not None}
        if len(set(known.values())) > 1:
            differing = ", ".join(f"{name} {value}" for name, value in known.items())
            raise UserError(f"{option}: the protocols differ ({differing}): evaluate one by one, or give {option}")
        return next(iter(known.values()), None)

    frames, fps, size = settings.num_frames, settings.fps, settings.size
    if frames is None:
        frames = asked("--num-frames", {name: each.num_frames for name, each in protocols.items()})
    if fps is None:
        fps = asked("--fps", {name: each.fps for name, each in protocols.items()})
    if size is None:
        sizes = {name: each.frame_size for name, each in protocols.items()}
        size = asked("--size", {name: (each.height, each.width) if each else None for name, each in sizes.items()})
    return replace(settings, num_frames=frames, fps=fps, size=size)


def protocol_figures(
    settings: ProtocolSettings,
    extractor: FeatureExtractor,
    generated: np.ndarray,
    reference: np.ndarray,
    form: ClipForm,
    seed: int,
) -> dict[str, Any]:
    """A protocol's distance between features (n, d) and (m, d), its 95 % interval, and its record."""
    value, low, high = distance_with_interval(make_distance(settings.distance), generated, reference, seed)
    clips = (form.num_frames, form.height, form.width)
    record = protocol_record(
        settings, extractor, value, generated=len(generated), real=len(reference), form=clips, fps=form.fps
    )
    return {"distance": value, "low": low, "high": high, "distance_name": settings.distance_name, **record}
