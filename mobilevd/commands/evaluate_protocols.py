"""The protocols of `mobilevd evaluate`, and the clips that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.protocol_settings import ProtocolSettings, load_protocol
from mobilevd.commands.evaluate_settings import EvaluateSettings
from mobilevd.errors import UserError

SHORT_NAMES = {"i3d": "stylegan-v"}
"""Kinds of `--features` that are no name of a protocol -> the protocol."""


def load_protocols(settings: EvaluateSettings) -> tuple[dict[str, ProtocolSettings], Path | None]:
    """The protocols by their names, and the place of their networks' weights.

    Without `protocols`, `features` names one with its weights. UserError for an unknown one, or two of one name.
    """
    names, weights = settings.protocols, settings.weights
    if not names:
        kind, _, place = settings.features.partition(":")
        names, weights = (SHORT_NAMES.get(kind, kind),), Path(place) if place else None
    found: dict[str, ProtocolSettings] = {}
    for name in names:
        protocol = load_protocol(name)
        if protocol.name in found:
            raise UserError(f"--protocol {name}: {protocol.name} is given twice")
        found[protocol.name] = protocol
    return found, weights


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
