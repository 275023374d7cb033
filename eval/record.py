"""The record of a figure made by a named protocol: settings, weights, clips, versions, and where it departs from it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch

from eval.features import FeatureExtractor
from eval.paper_line import paper_line
from eval.protocol_settings import ProtocolSettings
from mobilevd import __version__


def protocol_record(
    settings: ProtocolSettings,
    extractor: FeatureExtractor,
    value: float,
    *,
    generated: int,
    real: int,
    form: tuple[int, int, int],
    fps: float | None,
) -> dict[str, Any]:
    """Everything that made a figure, and a line for a paper.

    `generated` and `real` are numbers of clips; `form` is their frames, height and width, `fps` their rate if known.
    """
    frames, height, width = form
    departures = find_departures(settings, generated=generated, real=real, form=form, fps=fps)
    return {
        "protocol": settings.name,
        "settings": settings.as_record(),
        "weights_sha256": extractor.sha256,
        "clips": {"generated": generated, "real": real},
        "frames": frames,
        "height": height,
        "width": width,
        "fps": fps,
        "departures": departures,
        "versions": {"mobilevd": __version__, "torch": str(torch.__version__), "transformers": version("transformers")},
        "paper_line": paper_line(
            settings, value, generated=generated, real=real, form=form, fps=fps, departures=departures
        ),
    }


def find_departures(
    settings: ProtocolSettings, *, generated: int, real: int, form: tuple[int, int, int], fps: float | None
) -> list[str]:
    """What differs from the protocol, a phrase each; a figure with any is not the one that the protocol's name means."""
    frames, height, width = form
    size = settings.frame_size
    pairs = [
        ("generated clips", generated, settings.clips.generated),
        ("real clips", real, settings.clips.real),
        ("frames", frames, settings.num_frames),
        ("frames per second", fps if fps is not None else "unknown", settings.fps),
        ("size", f"{width}x{height}", f"{size.width}x{size.height}" if size else None),
    ]
    return [f"{what}: {_short(got)} where {_short(due)} is meant" for what, got, due in pairs if due not in (None, got)]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
