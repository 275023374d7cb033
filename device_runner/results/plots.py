"""The two plots of a measurement: the distribution of its samples, and their course over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from device_runner.protocol.statistics import percentile
from device_runner.results.svg import (
    Scale,
    dots,
    line,
    number,
    polyline,
    rectangle,
    svg,
    text,
    widened,
    x_axis,
    y_axis,
)
from device_runner.results.wording import milliseconds

WIDTH = 500.0
LEFT, RIGHT = 52.0, 490.0
MAX_BINS = 40
MAX_DOTS = 400
"""Number of samples above which each column is drawn as a band from p5 to p95 with the median."""
FEW = 100
"""Number of dots above which they are drawn smaller."""
COLUMNS = 200
MAX_SENSORS = 4
"""Number of lines above which they cannot be told apart."""


class Plot(NamedTuple):
    """An SVG, the names of its coloured lines (style, name), and the caption below it."""

    svg: str
    legend: list[tuple[str, str]]
    caption: str


class _Range(NamedTuple):
    low: float
    high: float
    above: int
    """Number of samples above `high`."""


def _shown_range(samples: Sequence[float]) -> _Range:
    """The range of all samples, unless a few are so far off that the others would be one bar; those are only counted.

    The limit is p95 plus twice the distance from p5 to p95.
    """
    low, p5, p95, high = (percentile(samples, p) for p in (0, 5, 95, 100))
    limit = p95 + 2 * (p95 - p5)
    if high <= limit or p95 == p5:
        return _Range(low, high, 0)
    shown = [sample for sample in samples if sample <= limit]
    return _Range(low, max(shown), len(samples) - len(shown))


def _outliers(shown: _Range, samples: Sequence[float], where: str) -> str:
    if not shown.above:
        return ""
    runs = "1 run" if shown.above == 1 else f"{shown.above} runs"
    return f"{runs} above {milliseconds(shown.high)} ms, up to {milliseconds(max(samples))} ms, {where}."


def distribution_plot(samples: Sequence[float]) -> Plot:
    """Histogram of samples in milliseconds; above it a box from p25 to p75 with whiskers to p5 and p95."""
    shown = _shown_range(samples)
    x = Scale(*widened(shown.low, shown.high, 0.03), LEFT, RIGHT)
    edges, counts = _histogram([sample for sample in samples if sample <= shown.high], shown)
    bottom, top = 235.0, 84.0
    y = Scale(0, max(counts) * 1.05, bottom, top)
    bars = "".join(
        rectangle(x.at(low) + 0.5, bottom, x.at(high) - 0.5, y.at(count), "bar", f"{_between(low, high)}: {count}")
        for (low, high), count in zip(pairwise(edges), counts, strict=True)
        if count
    )
    content = y_axis(y, LEFT, RIGHT, "runs") + bars + _box(samples, x) + _percentile_lines(samples, x, bottom)
    content += x_axis(x, bottom, "ms per run")
    caption = "Box: p25 to p75, whiskers: p5 and p95. " + _outliers(shown, samples, "not drawn")
    return Plot(svg(WIDTH, 275, "distribution of latencies", content), [], caption.strip())


def _between(low: float, high: float) -> str:
    return f"{milliseconds(low)} to {milliseconds(high)} ms"


def _histogram(samples: Sequence[float], shown: _Range) -> tuple[list[float], list[int]]:
    """Edges and counts; the bin width is that of Freedman and Diaconis (1981): 2 (p75 - p25) / n^(1/3)."""
    low, high = (shown.low, shown.high) if shown.high > shown.low else widened(shown.low, shown.high)
    width = 2 * (percentile(samples, 75) - percentile(samples, 25)) / len(samples) ** (1 / 3)
    bins = min(max(math.ceil((high - low) / width), 8), MAX_BINS) if width > 0 else 8
    counts = [0] * bins
    for sample in samples:
        counts[min(int((sample - low) / (high - low) * bins), bins - 1)] += 1
    return [low + (high - low) * index / bins for index in range(bins + 1)], counts


def _box(samples: Sequence[float], x: Scale) -> str:
    middle, half = 52.0, 9.0
    p5, p25, p50, p75, p95 = (x.at(percentile(samples, p)) for p in (5, 25, 50, 75, 95))
    return (
        line(p5, middle, p95, middle, "whisker")
        + line(p5, middle - 5, p5, middle + 5, "whisker")
        + line(p95, middle - 5, p95, middle + 5, "whisker")
        + rectangle(p25, middle - half, p75, middle + half, "box")
        + line(p50, middle - half, p50, middle + half, "median")
    )


def _percentile_lines(samples: Sequence[float], x: Scale, bottom: float) -> str:
    p50, p90 = (x.at(percentile(samples, p)) for p in (50, 90))
    # The labels move apart where the lines are close together.
    return (
        line(p50, 30, p50, bottom, "mark")
        + line(p90, 30, p90, bottom, "mark dashed")
        + text(p50, 22, "p50", "end" if p90 - p50 < 32 else "middle")
        + text(p90, 22, "p90", "start" if p90 - p50 < 32 else "middle")
    )


def time_plot(measurement: Mapping[str, Any]) -> Plot:
    """Samples over time; below them, on the same time axis, the temperatures and clocks noted meanwhile."""
    samples, starts = measurement["samples_ms"], measurement["starts_s"]
    timed = bool(starts) and starts[-1] > 0
    x_values = starts if timed else [float(index) for index in range(1, len(samples) + 1)]
    end = starts[-1] + samples[-1] / 1000 if timed else float(max(len(samples), 2))
    x = Scale(0 if timed else 1, end, LEFT, RIGHT)
    draw = _draw_dots if len(samples) <= MAX_DOTS else _draw_band
    y, marks, caption = draw(x_values, samples, x)
    parts = [y_axis(y, LEFT, RIGHT, "ms per run"), marks]
    parts.append(line(LEFT, y.at(percentile(samples, 50)), RIGHT, y.at(percentile(samples, 50)), "mark dashed"))
    bottom, legend = 195.0, []
    states = _states_over_time(measurement, end) if timed else []
    for lines, label in ((_temperatures(states), "°C"), (_clocks(states), "GHz")):
        if lines:
            panel, names = _panel(lines, x, bottom + 36, bottom + 116, label, len(legend))
            parts.append(panel)
            legend += names
            bottom += 116
    throttled_s = (measurement.get("sustained") or {}).get("throttled_after_s")
    if timed and throttled_s is not None and throttled_s <= end:
        side = "start" if throttled_s < end * 0.7 else "end"
        at = x.at(throttled_s)
        label_x = at + (4 if side == "start" else -4)
        parts.append(line(at, 28, at, bottom, "throttled") + text(label_x, 38, "throttled", side, "warn"))
    parts.append(x_axis(x, bottom, "seconds since the first timed run" if timed else "run"))
    if not states and measurement["series"]:
        caption += " The runner does not tell when its runs started, so temperatures cannot be drawn beside them."
    return Plot(svg(WIDTH, bottom + 40, "latency over time", "".join(parts)), legend, caption.strip())


def _latency_scale(low: float, high: float) -> Scale:
    return Scale(*widened(low, high, 0.08), 195, 28)


def _draw_dots(x_values: Sequence[float], samples: Sequence[float], x: Scale) -> tuple[Scale, str, str]:
    """Scale, marks and caption: each sample is a dot, or an arrow at the edge."""
    shown = _shown_range(samples)
    y = _latency_scale(shown.low, shown.high)
    points = list(zip(x_values, samples, strict=True))
    inside = [(x.at(when), y.at(ms)) for when, ms in points if ms <= shown.high]
    arrows = [polyline(_arrow(x.at(when), y.end), "outlier", closed=True) for when, ms in points if ms > shown.high]
    marks = dots(inside, "dots" if len(samples) <= FEW else "dots small") + "".join(arrows)
    return y, marks, f"Dashed: median. {_outliers(shown, samples, 'marked at the edge')}"


def _draw_band(x_values: Sequence[float], samples: Sequence[float], x: Scale) -> tuple[Scale, str, str]:
    """Scale, marks and caption for more samples than there are pixels: percentiles of columns of equal time."""
    columns: dict[int, list[float]] = {}
    for when, ms in zip(x_values, samples, strict=True):
        columns.setdefault(int((when - x.low) / (x.high - x.low) * COLUMNS), []).append(ms)
    bands = {column: [percentile(inside, p) for p in (5, 50, 95)] for column, inside in sorted(columns.items())}
    y = _latency_scale(min(band[0] for band in bands.values()), max(band[2] for band in bands.values()))
    step = (x.end - x.start) / COLUMNS
    low, median, high = (
        [(x.start + (column + 0.5) * step, y.at(band[which])) for column, band in bands.items()] for which in range(3)
    )
    marks = polyline(high + low[::-1], "band", closed=True) + polyline(median, "latency")
    told = f"Band: p5 to p95, line: median, of {COLUMNS} equal times; the slowest run took {milliseconds(max(samples))} ms."
    return y, marks, f"{told} Dashed: median of all."


def _arrow(x: float, y: float) -> list[tuple[float, float]]:
    """The points of an arrow upwards, for a sample that lies above the plot."""
    return [(x - 4, y + 7), (x, y), (x + 4, y + 7)]


_Lines = dict[str, list[tuple[float, float]]]
"""Name -> (seconds since the first timed run, value)."""


def _states_over_time(measurement: Mapping[str, Any], end_s: float) -> list[tuple[float, Mapping[str, Any]]]:
    """The states noted during the timed runs, each with its time in seconds."""
    first = measurement["first_start_uptime_s"]
    if first is None:
        return []
    timed = [(each["uptime_s"] - first, each) for each in measurement["series"] if each["uptime_s"] is not None]
    return [(when, each) for when, each in timed if 0 <= when <= end_s]


def _temperatures(states: Sequence[tuple[float, Mapping[str, Any]]]) -> _Lines:
    """The temperatures of the battery, and of those other sensors that became the hottest."""
    lines: _Lines = {}
    for when, state in states:
        for name, celsius in (state.get("temperatures_c") or {}).items():
            lines.setdefault(name, []).append((when, celsius))
    hottest = sorted(lines, key=lambda name: -max(celsius for _, celsius in lines[name]))
    chosen = {name: lines[name] for name in hottest[: MAX_SENSORS - 1]}
    battery = [(when, state["battery_c"]) for when, state in states if state.get("battery_c") is not None]
    return {**chosen, "battery": battery} if battery and "battery" not in chosen else chosen


def _clocks(states: Sequence[tuple[float, Mapping[str, Any]]]) -> _Lines:
    """Mean clock in GHz of the cores that share an upper limit, as cores of one kind do."""
    if not states:
        return {}
    limits = states[0][1].get("max_frequencies_khz") or []
    count = max(len(state.get("frequencies_khz") or []) for _, state in states)
    kinds: dict[Any, list[int]] = {}
    for core in range(count):
        kinds.setdefault(limits[core] if core < len(limits) else None, []).append(core)
    lines: _Lines = {}
    for cores in list(kinds.values())[:MAX_SENSORS]:
        for when, state in states:
            now = state.get("frequencies_khz") or []
            khz = [now[core] for core in cores if core < len(now) and now[core] is not None]
            if khz:
                lines.setdefault(_cores(cores), []).append((when, sum(khz) / len(khz) / 1e6))
    return lines


def _cores(cores: Sequence[int]) -> str:
    if len(cores) == 1:
        return f"core {cores[0]}"
    together = cores[-1] - cores[0] + 1 == len(cores)
    return f"cores {cores[0]} to {cores[-1]}" if together else f"cores {', '.join(map(str, cores))}"


def _panel(
    lines: _Lines, x: Scale, top: float, bottom: float, label: str, used: int
) -> tuple[str, list[tuple[str, str]]]:
    """Lines under the latencies, and their names; `used` is the number of colours that other panels use."""
    values = [value for points in lines.values() for _, value in points]
    y = Scale(*widened(min(values), max(values), 0.1), bottom, top)
    parts = [y_axis(y, LEFT, RIGHT, label, count=3)]
    legend = []
    for index, (name, points) in enumerate(lines.items()):
        style = f"s{(used + index) % 8 + 1}"
        parts.append(polyline([(x.at(when), y.at(value)) for when, value in points], f"series {style}"))
        legend.append(
            (style, f"{name} ({label}, last {number(points[-1][1]) if label == '°C' else f'{points[-1][1]:.2f}'})")
        )
    return "".join(parts), legend
