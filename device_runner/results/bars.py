"""Measurements side by side, and the parts of a clip: bars as shares of a width, for the page to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from device_runner.protocol.statistics import knows_median
from device_runner.results.wording import device_title, figure_title, protocol_title

COLOURS = 6
"""Number of colours in the page's style sheet; devices after the sixth share them."""


class Bar(NamedTuple):
    """One measurement; positions are in percent of the panel's width, None if there is no such figure."""

    anchor: str
    bundle: str
    device: str
    told: str
    colour: int
    middle: float | None
    """The median, or the mean if the runner gives nothing else."""
    low: float | None
    """Lower end of the median's 95 % interval; `high` is the upper end."""
    high: float | None
    p90: float | None
    warned: bool


class Panel(NamedTuple):
    """The measurements of one program under one protocol, which may be compared."""

    program: str
    protocol: str
    bars: list[Bar]


def panels(measurements: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """A panel per program and protocol; bars are sorted by device, then by the order of measuring."""
    groups: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for index, each in enumerate(measurements):
        groups.setdefault((each["program"], protocol_title(each["protocol"])), []).append((index, each))
    devices = list(dict.fromkeys(device_title(each["device"]) for each in measurements))
    return [Panel(*key, _bars(group, devices)) for key, group in groups.items()]


def _bars(group: list[tuple[int, Mapping[str, Any]]], devices: list[str]) -> list[Bar]:
    summaries = [each["summary"] or {} for _, each in group]
    # A slow p90 must not shrink the bars, so the scale includes it only up to twice the longest bar.
    longest = max((_middle(summary) or 0 for summary in summaries), default=0)
    reach = max((summary.get(name, 0) for summary in summaries for name in ("p90", "median_ci_high")), default=0)
    full = max(longest, min(reach, 2 * longest)) or 1.0
    several = len({each["runner"]["name"] for _, each in group}) > 1
    bars = [_bar(index, each, devices, full, several) for index, each in group]
    return sorted(bars, key=lambda bar: bar.colour)


def _bar(index: int, measurement: Mapping[str, Any], devices: list[str], full: float, name_runner: bool) -> Bar:
    summary = measurement["summary"] or {}
    interval = summary if summary and knows_median(summary) else {}

    def share(value: float | None) -> float | None:
        return None if value is None else round(min(100 * value / full, 100), 2)

    title = device_title(measurement["device"])
    runner = f", {measurement['runner']['name']}" if name_runner else ""
    return Bar(
        anchor=f"m{index}",
        bundle=f"{measurement['bundle']['name']} ({measurement['bundle']['precision']}{runner})",
        device=title,
        told=figure_title(measurement),
        colour=devices.index(title) % COLOURS + 1,
        middle=share(_middle(summary)),
        low=share(interval.get("median_ci_low")),
        high=share(interval.get("median_ci_high")),
        p90=share(summary.get("p90")),
        warned=bool(measurement["warnings"]),
    )


def _middle(summary: Mapping[str, float]) -> float | None:
    return summary.get("p50", summary.get("mean"))


class Segment(NamedTuple):
    """One program's part of a clip."""

    name: str
    runs: int
    ms: float | None
    """Time of one run."""
    total_ms: float | None
    percent: float
    colour: int


def clip_segments(clip: Mapping[str, Any]) -> list[Segment]:
    """The programs of a clip with their shares of its time in percent; 0 if there is no time."""
    segments = []
    for index, program in enumerate(clip["programs"]):
        total_ms = None if program["ms"] is None else program["runs"] * program["ms"]
        share = round(100 * total_ms / clip["total_ms"], 2) if total_ms is not None and clip["total_ms"] else 0.0
        segments.append(Segment(program["name"], program["runs"], program["ms"], total_ms, share, index % COLOURS + 1))
    return segments
