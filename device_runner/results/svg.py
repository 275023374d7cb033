"""Small parts of inline SVG: scales with round ticks, and shapes whose colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Scale(NamedTuple):
    """A map from values `low`..`high` to pixels `start`..`end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value; values outside the range are put on the edge."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def widened(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """The range with a margin on either side; a range without width gets one."""
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within the range, about `count` of them: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.75)
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """The ticks' texts, with as many decimals as the step between them needs."""
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) if values else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if values and max(values) >= 100_000:  # six digits leave no room for the plot
        return [f"{value / 1000:.0f}k" if value else "0" for value in values]
    return [f"{value:.{decimals}f}" for value in values]


def number(value: float) -> str:
    """A coordinate as text: a tenth of a pixel is finer than any screen shows."""
    return f"{value:.1f}".removesuffix(".0")


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<path class="{style}" d="M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}"/>'


def polyline(points: Iterable[tuple[float, float]], style: str, closed: bool = False) -> str:
    path = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return f'<path class="{style}" d="M{path}{"Z" if closed else ""}"/>'


def dots(points: Iterable[tuple[float, float]], style: str) -> str:
    """Dots, as lines without length and with round ends: a tenth of the bytes of circles."""
    return f'<path class="{style}" d="{"".join(f"M{number(x)} {number(y)}h0" for x, y in points)}"/>'


def rectangle(x1: float, y1: float, x2: float, y2: float, style: str, told: str = "") -> str:
    """A rectangle; `told` is shown while a pointer rests on it."""
    title = f"<title>{escape(told)}</title>" if told else ""
    size = f'width="{number(abs(x2 - x1))}" height="{number(abs(y2 - y1))}"'
    return f'<rect class="{style}" x="{number(min(x1, x2))}" y="{number(min(y1, y2))}" {size}>{title}</rect>'


def text(x: float, y: float, content: str, anchor: str = "middle", style: str = "") -> str:
    style = f' class="{style}"' if style else ""
    return f'<text{style} x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{escape(content)}</text>'


def x_axis(scale: Scale, y: float, label: str) -> str:
    values = ticks(scale.low, scale.high)
    marks = [line(scale.start, y, scale.end, y, "axis")]
    for value, told in zip(values, tick_texts(values), strict=True):
        marks.append(line(scale.at(value), y, scale.at(value), y + 4, "axis") + text(scale.at(value), y + 17, told))
    return "".join(marks) + text((scale.start + scale.end) / 2, y + 34, label)


def y_axis(scale: Scale, x1: float, x2: float, label: str, count: int = 4) -> str:
    """Grid lines from `x1` to `x2`, and the label above; a short label stands above the ticks' texts."""
    values = ticks(scale.low, scale.high, count)
    marks = [
        line(x1, scale.at(value), x2, scale.at(value), "grid") + text(x1 - 6, scale.at(value) + 4, told, "end")
        for value, told in zip(values, tick_texts(values), strict=True)
    ]
    at = (x1 - 6, "end") if len(label) <= 4 else (x1, "start")
    return "".join(marks) + text(at[0], min(scale.start, scale.end) - 10, label, at[1], "strong")


def svg(width: float, height: float, label: str, content: str) -> str:
    """The SVG element; it scales with the page, and `label` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {number(width)} {number(height)}" role="img" aria-label="{escape(label)}">{content}</svg>'
    )
