"""Curves of a stage's training: its losses and the validations, each figure in a plot of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mobilevd.report.plots import curve_plot
from mobilevd.report.run_data import ReportedRow

MOST_POINTS = 400
"""Points of a curve; of longer ones every so many-th is drawn."""
FIRST = ("loss", "loss_g", "loss_d", "huber", "teacher", "r1", "real", "fake")
"""Figures that are shown first, in this order; the others are folded away."""
NAMES = {
    "loss": "loss",
    "loss_g": "generator's loss",
    "loss_d": "discriminator's loss",
    "huber": "pseudo-Huber loss",
    "teacher": "distance to the teacher",
    "r1": "R1 penalty",
    "real": "logits of real clips",
    "fake": "logits of generated clips",
}


@dataclass(frozen=True)
class Curve:
    """A figure over the steps: what it is called, its SVG, and its last value in words."""

    name: str
    svg: str
    caption: str


def curves_of(row: ReportedRow) -> tuple[list[Curve], list[Curve]]:
    """The curves of a row's training: the first ones (validations before losses), and the others."""
    figures = {name for line in row.history.steps for name in line["figures"]}
    ordered = [name for name in FIRST if name in figures]
    others = sorted(figures - set(FIRST))
    return _validations(row) + _drawn(row, ordered), _drawn(row, others)


def _drawn(row: ReportedRow, names: list[str]) -> list[Curve]:
    drawn = []
    for name in names:
        values = [
            (float(step), float(value)) for step, value in row.history.series(name) if isinstance(value, (int, float))
        ]
        if len(values) > 1:
            called = NAMES.get(name, name.replace("_", " "))
            told = f"{called} of {row.name} from step {values[0][0]:g} to {values[-1][0]:g}"
            drawn.append(Curve(called, curve_plot(_thinned(values), told), f"last {values[-1][1]:.4g}"))
    return drawn


def _validations(row: ReportedRow) -> list[Curve]:
    lines = [line for line in row.history.validations if _number(line["figures"].get("distance"))]
    if len(lines) < 2:
        return []
    values = [(float(line["step"]), float(line["figures"]["distance"])) for line in lines]
    ends = [(line["step"], *(line["figures"].get(f"distance_{end}") for end in ("low", "high"))) for line in lines]
    band = [(float(step), float(low), float(high)) for step, low, high in ends if _number(low) and _number(high)]
    told = f"distance of {row.name} at its validations, from {values[0][1]:.4g} to {values[-1][1]:.4g}"
    name = "distance at validations"
    return [
        Curve(name, curve_plot(values, told, band, "s2"), f"last {values[-1][1]:.4g}; the band is its 95 % interval")
    ]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _thinned(values: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = -(-len(values) // MOST_POINTS)
    return values[::step] if values[-1] == values[::step][-1] else [*values[::step], values[-1]]
