"""The latency of a whole clip on a device: every program of the path from a picture to frames, and their sum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from device_runner.bundle.read import Bundle
from device_runner.measure.measure import Measurement

MEDIAN, MEAN = "p50", "mean"


def clip_latency(bundle: Bundle, measurements: Sequence[Measurement]) -> dict[str, Any] | None:
    """End-to-end latency of one clip on one device, in milliseconds: each program's `figure` times its runs, summed.

    The figure is the median under every protocol, as a sum of p90s is no p90 of anything; it is the mean if a runner
    gives averages only. Programs are loaded once and kept, as an application does, so loading is not included; nor is
    reading the picture or showing the frames.

    Args:
        bundle: a bundle of the whole path.
        measurements: measurements of its programs on one device, under one protocol.

    Returns None for a bundle that does not hold the whole path, or if a program of it was not measured.
    """
    found = {measurement.program: measurement for measurement in measurements}
    if bundle.runs_per_clip is None or not bundle.runs_per_clip.keys() <= found.keys():
        return None
    used = [found[name] for name in bundle.runs_per_clip]
    emulated = any(measurement.emulated for measurement in used)
    figure = None if emulated else common_figure(used)
    programs = [
        {"name": name, "runs": runs, "ms": None if figure is None else _ms(found[name], figure)}
        for name, runs in bundle.runs_per_clip.items()
    ]
    total_ms = None if figure is None else math.fsum(program["ms"] * program["runs"] for program in programs)
    frames = bundle.frames_per_clip
    return {
        "bundle": bundle.name,
        "sha256": bundle.sha256,
        "target": bundle.target,
        "precision": bundle.precision,
        "device": measurements[0].device["name"],
        "emulated": emulated,
        "frames": frames,
        "fps": _fps(bundle),
        "figure": figure,
        "programs": programs,
        "total_ms": total_ms,
        "ms_per_frame": total_ms / frames if total_ms is not None and frames else None,
    }


def common_figure(measurements: Iterable[Measurement]) -> str:
    """Name of the figure that all measurements have; figures of two kinds are never added up."""
    return MEDIAN if all(MEDIAN in (each.summary or {}) for each in measurements) else MEAN


def _ms(measurement: Measurement, figure: str) -> float:
    if measurement.summary is None:  # only an emulated one lacks it
        raise ValueError(f"{measurement.program}: not emulated, but without a summary")
    return measurement.summary[figure]


def _fps(bundle: Bundle) -> float | None:
    """Frames per second from the manifest's model; None if missing or not positive, since a manifest is not trusted."""
    fps = bundle.manifest.model.fps
    return fps if fps is not None and fps > 0 else None
