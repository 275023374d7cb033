"""Quality against cost: the run's models and the published ones in the same plots, each relative to its own base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.figures import number, significant
from eval.published import PHONE, PUBLISHED, PublishedRow
from mobilevd.report.plots import Point, Series, quality_plot
from mobilevd.report.run_data import ReportedRow, ReportedRun
from mobilevd.report.tables import quality_rows

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class QualityPlot:
    """A plot with its heading, its SVG and what stands below it."""

    heading: str
    svg: str
    caption: str


def label_of(run_number: int, row_number: int, runs: int) -> str:
    """What a row is called in plots: its number, with the run's letter where there are several."""
    return f"{LETTERS[run_number % 26].upper() if runs > 1 else ''}{row_number + 1}"


def quality_plots(runs: Sequence[ReportedRun]) -> list[QualityPlot]:
    """Distance over the base's, against FLOPs of a clip, size and latency; a plot without points is left out."""
    plots = [
        _plot(
            runs,
            "Quality and FLOPs",
            "FLOPs of a clip, over the base's",
            _flops,
            lambda row: row.tflops_per_clip / PUBLISHED[0].tflops_per_clip,
        ),
        _plot(runs, "Quality and size", "parameters, over the base's", _size, None),
        _plot(runs, "Quality and latency", "ms of one evaluation", _latency, lambda row: row.phone_ms),
    ]
    return [plot for plot in plots if plot is not None]


def _plot(
    runs: Sequence[ReportedRun],
    heading: str,
    x_label: str,
    cost: Callable[[ReportedRow, ReportedRow], float | None],
    published_cost: Callable[[PublishedRow], float | None] | None,
) -> QualityPlot | None:
    series = [_series(run, i, len(runs), cost) for i, run in enumerate(runs)]
    if not any(each.points for each in series):
        return None
    series = [each for each in series if each.points]
    caption = "Numbers are rows of the table; the line joins those that no other beats in both."
    if published_cost is not None:
        series.append(_published(published_cost))
        caption += f" Letters are the paper's rows, in its order: FVD at 7 fps over SVD's{_phone(heading)}."
    else:
        caption += " The paper prints no sizes."
    return QualityPlot(heading, quality_plot(series, x_label, "distance, over the base's"), caption)


def _phone(heading: str) -> str:
    return f", on a {PHONE}" if "latency" in heading else ""


def _series(
    run: ReportedRun, place: int, runs: int, cost: Callable[[ReportedRow, ReportedRow], float | None]
) -> Series:
    rows = quality_rows(run)
    points = []
    for row in rows:
        x = cost(row, rows[0])
        if not x:
            continue
        base, y = rows[0].figures["distance"], row.figures["distance"]
        ends = [number(row.figures, f"distance_{end}") for end in ("low", "high")]
        low, high = (end / base if end is not None and end > 0 else None for end in ends)
        told = f"{row.name}: distance {significant(y)}, {significant(y / base)} times the base's"
        points.append(Point(x, y / base, low, high, label_of(place, run.rows.index(row), runs), told))
    return Series(run.name, f"s{place % 6 + 1}", points)


def _published(cost: Callable[[PublishedRow], float | None]) -> Series:
    points = [
        Point(x, row.fvd_7 / PUBLISHED[0].fvd_7, None, None, LETTERS[i], f"{row.name}, published: FVD {row.fvd_7:g}")
        for i, row in enumerate(PUBLISHED)
        if (x := cost(row))
    ]
    return Series("the paper", "published", points)


def _flops(row: ReportedRow, base: ReportedRow) -> float | None:
    own, of_base = number(row.figures, "flops_per_clip"), number(base.figures, "flops_per_clip")
    return own / of_base if own and of_base else None


def _size(row: ReportedRow, base: ReportedRow) -> float | None:
    own, of_base = number(row.figures, "parameters"), number(base.figures, "parameters")
    return own / of_base if own and of_base else None


def _latency(row: ReportedRow, base: ReportedRow) -> float | None:
    return number(row.figures, "device_ms") or number(row.figures, "host_ms")
