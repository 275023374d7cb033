"""Plots of the report as inline SVG: quality against cost, and curves over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from device_runner.results.svg import Scale, dots, line, number, polyline, svg, text, tick_texts, ticks, widened

WIDTH, HEIGHT = 560.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 40.0, 34.0, 54.0
NEAR = 12.0
"""Pixels between dots whose labels would lie on one another."""


@dataclass(frozen=True)
class Point:
    """A model in a plot.

    Attributes:
        x, y: values, above 0.
        low, high: ends of the interval of y; None where there is none.
        label: what stands beside it, a number or a letter.
        told: what is shown while a pointer rests on it.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    label: str
    told: str


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Attributes:
        name: for the legend.
        style: class of the colour in the style sheet ("s1").
        points: in order.
    """

    name: str
    style: str
    points: Sequence[Point]


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: the points that none other beats in both values, from the cheapest to the dearest."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if not best or point.y < best[-1].y:
            best.append(point)
    return best


def quality_plot(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """Quality (lower is better) against cost, both on logarithmic axes; a line joins each series' Pareto front."""
    points = [point for each in series for point in each.points]
    xs = [math.log10(point.x) for point in points]
    ys = [math.log10(value) for point in points for value in (point.y, point.low, point.high) if value and value > 0]
    x = Scale(*_decades(xs), LEFT, WIDTH - RIGHT)
    y = Scale(*_decades(ys), HEIGHT - BOTTOM, TOP)
    drawn = [_log_axes(x, y, x_label, y_label)]
    for each in series:
        path = [(x.at(math.log10(p.x)), y.at(math.log10(p.y))) for p in front(each.points)]
        drawn.append(polyline(path, f"front {each.style}") if len(path) > 1 else "")
        drawn += [_marked(point, x, y, each.style) for point in each.points]
    drawn.append(_labels(points, x, y))
    names = "; ".join(f"{each.name}: {len(each.points)} models" for each in series)
    return svg(WIDTH, HEIGHT, f"{y_label} against {x_label}. {names}. The table above has the values.", "".join(drawn))


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The range of logarithms, with room at the edges, at least a factor of two wide."""
    low, high = min(values), max(values)
    spare = max(0.0, (math.log10(2) - (high - low)) / 2)
    return widened(low - spare, high + spare, 0.08)


def log_ticks(low: float, high: float) -> list[float]:
    """Round values whose logarithms lie in the range, 3 to 8 of them: as many multiples of powers of ten as that takes."""
    found: list[float] = []
    for factors in ((1,), (1, 2, 5), range(1, 10), [tenth / 10 for tenth in range(10, 100)]):
        found = [
            factor * 10.0**power
            for power in range(math.floor(low) - 1, math.ceil(high) + 1)
            for factor in factors
            if low <= math.log10(factor * 10.0**power) <= high
        ]
        if len(found) >= 3:
            break
    return found[:: -(-len(found) // 8)]


def _log_axes(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    bottom, marks = HEIGHT - BOTTOM, []
    for value in log_ticks(y.low, y.high):
        at = y.at(math.log10(value))
        marks.append(line(LEFT, at, WIDTH - RIGHT, at, "grid") + text(LEFT - 6, at + 4, f"{value:g}", "end"))
    marks.append(line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"))
    for value in log_ticks(x.low, x.high):
        at = x.at(math.log10(value))
        marks.append(line(at, bottom, at, bottom + 4, "axis") + text(at, bottom + 18, f"{value:g}"))
    return (
        "".join(marks)
        + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label)
        + text(0, 14, y_label, "start", "strong")
    )


def _marked(point: Point, x: Scale, y: Scale, style: str) -> str:
    at_x, at_y = x.at(math.log10(point.x)), y.at(math.log10(point.y))
    whisker = ""
    if point.low and point.high:
        ends = [y.at(math.log10(max(value, 1e-12))) for value in (point.low, point.high)]
        whisker = line(at_x, ends[0], at_x, ends[1], f"interval {style}")
    place = f'cx="{number(at_x)}" cy="{number(at_y)}" r="4.5"'
    dot = f'<circle class="dot {style}" {place}><title>{escape(point.told)}</title></circle>'
    return whisker + dot


def _labels(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """The labels beside the dots; dots that lie on one another share one: "3, 4"."""
    groups: list[tuple[float, float, list[str]]] = []
    for point in points:
        at = x.at(math.log10(point.x)), y.at(math.log10(point.y))
        near = next((names for gx, gy, names in groups if math.hypot(at[0] - gx, at[1] - gy) < NEAR), None)
        if near is None:
            groups.append((*at, [point.label]))
        else:
            near.append(point.label)
    return "".join(text(gx + 8, gy - 6, ", ".join(names), "start", "strong") for gx, gy, names in groups)


CURVE_WIDTH, CURVE_HEIGHT = 340.0, 190.0


def curve_plot(
    values: Sequence[tuple[float, float]], told: str, band: Sequence[tuple[float, float, float]] = (), style: str = "s1"
) -> str:
    """A figure over the steps of a training. `band` has (step, low, high) of intervals. `told` is for screen readers."""
    xs = [step for step, _ in values]
    ys = [value for _, value in values] + [end for _, low, high in band for end in (low, high)]
    x = Scale(*((min(xs), max(xs)) if min(xs) < max(xs) else widened(xs[0], xs[0])), 54, CURVE_WIDTH - 12)
    y = Scale(*widened(min(ys), max(ys)), CURVE_HEIGHT - 30, 12)
    y_ticks, x_ticks = ticks(y.low, y.high, 4), [t for t in ticks(x.low, x.high, 4) if t == int(t)]
    drawn = [
        line(x.start, y.at(value), x.end, y.at(value), "grid") + text(x.start - 6, y.at(value) + 4, mark, "end")
        for value, mark in zip(y_ticks, tick_texts(y_ticks), strict=True)
    ]
    drawn.append(line(x.start, y.start, x.end, y.start, "axis"))
    drawn += [text(x.at(value), y.start + 18, mark) for value, mark in zip(x_ticks, tick_texts(x_ticks), strict=True)]
    if len(band) > 1:
        outline = [(x.at(s), y.at(low)) for s, low, _ in band] + [
            (x.at(s), y.at(high)) for s, _, high in reversed(band)
        ]
        drawn.append(polyline(outline, "band", closed=True))
    path = [(x.at(step), y.at(value)) for step, value in values]
    drawn.append(polyline(path, f"series {style}") if len(path) > 1 else "")
    drawn.append(dots(path, f"dots small {style}") if len(path) <= 40 else "")
    return svg(CURVE_WIDTH, CURVE_HEIGHT, told, "".join(drawn))
