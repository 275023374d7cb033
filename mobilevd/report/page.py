"""The report as one self-contained HTML file: no network, its clips inside, for any screen, by keyboard and by ear."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from eval.report import describe_protocol, name_of_distance
from eval.report_pairs import legend
from mobilevd.files import atomic_write_text
from mobilevd.report.curves import Curve, curves_of
from mobilevd.report.embedded import RawFile, ShownVideo, clip_groups, data_uri, raw_files_of, validation_videos
from mobilevd.report.page_file import MARK
from mobilevd.report.quality import QualityPlot, label_of, quality_plots
from mobilevd.report.results_file import RESULTS
from mobilevd.report.run_data import ReportedRun
from mobilevd.report.tables import (
    Table,
    cumulative_table,
    export_table,
    headline,
    latency_table,
    pairs_table,
    raw_figures,
)
from mobilevd.report.unet_drawing import draw_unet, signature


@dataclass(frozen=True)
class Drawing:
    """A UNet: the row that it is of, its SVG, and how wide that is in pixels."""

    title: str
    svg: str
    width: int


@dataclass(frozen=True)
class Training:
    """A stage's training: its curves, and clips of its validations."""

    title: str
    first: list[Curve]
    others: list[Curve]
    videos: list[ShownVideo]


@dataclass(frozen=True)
class RowSection:
    """A row's raw data: its label in plots, an anchor, its numbers, protocol and files."""

    label: str
    anchor: str
    title: str
    figures: list[tuple[str, str]]
    protocol: str
    raw: list[RawFile]


@dataclass(frozen=True)
class RunSection:
    """Everything of a run that the template shows."""

    anchor: str
    name: str
    facts: list[tuple[str, str]]
    tiles: list[tuple[str, str, str]]
    clips: list[list[ShownVideo]]
    clips_left_out: int
    table: Table
    legend: list[str]
    protocol: str
    drawings: list[Drawing]
    trainings: list[Training]
    exports: Table | None
    latencies: Table | None
    pairs: Table | None
    remarks: list[str]
    rows: list[RowSection]
    results: str


def write_report(runs: Sequence[ReportedRun], file: Path) -> None:
    """Write the report of one run, or of several side by side; UserError if the file cannot be written."""
    atomic_write_text(file, render(runs))


def render(runs: Sequence[ReportedRun]) -> str:
    """The page's text. What runs give is escaped by the template engine or, inside drawings, by `svg`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("mobilevd.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (files("mobilevd.report") / "report.js").read_text(encoding="utf-8")
    plots = quality_plots(runs)
    return environment.get_template("report.html.j2").render(
        runs=[_section(run, number, len(runs)) for number, run in enumerate(runs)],
        plots=[QualityPlot(plot.heading, Markup(plot.svg), plot.caption) for plot in plots],
        plotted=[run.name for run in runs] if len(runs) > 1 else [],
        mark=Markup(MARK.decode()),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        markup=Markup,
    )


def _section(run: ReportedRun, number: int, runs: int) -> RunSection:
    results, rows = run.results, [row.figures for row in run.rows]
    clips, left_out = clip_groups(run)
    protocol = describe_protocol(results.get("protocol") or {}, name_of_distance(rows)) if rows else ""
    return RunSection(
        anchor=f"run-{number + 1}",
        name=run.name,
        facts=_facts(run),
        tiles=headline(run),
        clips=clips,
        clips_left_out=left_out,
        table=cumulative_table(run),
        legend=legend(rows),
        protocol=protocol,
        drawings=_drawings(run),
        trainings=_trainings(run),
        exports=export_table(run),
        latencies=latency_table(run),
        pairs=pairs_table(run),
        remarks=[str(remark) for remark in results.get("remarks") or []],
        rows=[_row_section(run, number, i, runs, protocol) for i in range(len(run.rows))],
        results=data_uri(run.folder / RESULTS),
    )


def _facts(run: ReportedRun) -> list[tuple[str, str]]:
    machine: dict[str, Any] = run.results.get("machine") or {}
    facts = {"created": run.results.get("created"), "seed": run.results.get("seed"), **machine}
    return [(key.replace("_", " "), _told(value)) for key, value in facts.items() if value is not None]


def _told(value: Any) -> str:
    return ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)


def _drawings(run: ReportedRun) -> list[Drawing]:
    """The UNets of the run that differ, the base first."""
    rows = [row for row in run.rows if row.model_config is not None]
    seen, drawings = set(), []
    for row in rows:
        config, base = row.model_config or {}, rows[0].model_config or {}
        if signature(config) not in seen:
            seen.add(signature(config))
            drawings.append(Drawing(row.name, *draw_unet(config, base, row.name)))
    return drawings


def _trainings(run: ReportedRun) -> list[Training]:
    trainings = []
    for place, row in enumerate(run.rows):
        first, others = curves_of(row)
        videos = validation_videos(run, place)
        if first or others or videos:
            trainings.append(Training(row.name, first, others, videos))
    return trainings


def _row_section(run: ReportedRun, number: int, place: int, runs: int, protocol: str) -> RowSection:
    row = run.rows[place]
    own = row.figures.get("protocol")
    told = describe_protocol(own, str(row.figures.get("distance_name", "distance"))) if own else protocol
    return RowSection(
        label=label_of(number, place, runs),
        anchor=f"run-{number + 1}-row-{place + 1}",
        title=row.name,
        figures=raw_figures(row),
        protocol=told,
        raw=raw_files_of(run, place),
    )
