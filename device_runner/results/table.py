"""The report in the terminal: a table per device and protocol, so that a measurement's row fits 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from device_runner.results.naming import Named, numbered, remarks_by_text
from device_runner.results.overview import groups_of
from device_runner.results.terminal import cell, new_table, print_line, print_sections
from device_runner.results.wording import (
    EMULATED,
    NOTHING,
    bundle_title,
    clip_title,
    mebibytes,
    milliseconds,
    percent,
    sustained_title,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

MARK = "!"
"""Mark in the last column for warnings, which are listed below the table."""


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print one row per measurement, clips with the sum of their programs, then warnings, notes and failures."""
    measurements = report["measurements"]
    marks = numbered(bundle_title(each["bundle"]) for each in measurements)
    for group in groups_of(measurements):
        print_line(console, group.device, "bold")
        print_line(console, group.protocol, "dim")
        sections: dict[Sequence[str], list[list[Text]]] = {}
        for each in (measurements[index] for index in group.indices):
            title = bundle_title(each["bundle"])
            row = _row(each, group.figure) if group.figure else [cell(each["program"]), cell(EMULATED, "yellow")]
            sections.setdefault((f"{marks[title]} {title}".lstrip(),), []).append(row)
        print_sections(console, _heads(group.figure), sections, words_last=group.figure is None)
        console.print()
    for clip in report["clips"]:
        print_line(console, clip_title(clip), "bold")
        console.print(_clip_table(clip))
        console.print()
    _print_remarks(measurements, console)
    for failure in report["failures"]:
        what = f"{failure['program']} of {failure['bundle']}" if failure["program"] else failure["bundle"]
        print_line(console, f"failed: {what} on {failure['device']}: {failure['error']}", "bold red")


def _heads(figure: str | None) -> Sequence[str]:
    """The heads of the columns; the main figure comes first, since it represents the measurement."""
    if figure is None:
        return ("program", "result")
    others = (f"{other}\nms" for other in _others(figure))
    return ("program", f"{figure}\nms", *others, "CV\n%", "load\nms", "peak\nMiB", "")


def _others(figure: str) -> list[str]:
    return [name for name in ("p50", "p90") if name != figure]


def _row(measurement: Mapping[str, Any], figure: str) -> list[Text]:
    summary = measurement["summary"]
    return [
        cell(measurement["program"]),
        cell(milliseconds(measurement["figure"]["ms"]), "bold"),
        *(cell(milliseconds(summary.get(name))) for name in _others(figure)),
        cell(NOTHING if summary.get("cv") is None else f"{100 * summary['cv']:.1f}"),
        cell(milliseconds(measurement["load_ms"])),
        cell(mebibytes(measurement["memory"].get("peak_rss_bytes"))),
        cell(MARK if measurement["warnings"] else "", "bold yellow"),
    ]


def _clip_table(clip: Mapping[str, Any]) -> Table:
    table = new_table()
    table.add_column("program", overflow="fold")
    for name in ("runs", "ms each", "ms", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    total = clip["total_ms"]
    for program in clip["programs"]:
        ms = program["ms"]
        sum_ms = None if ms is None else program["runs"] * ms
        share = percent(sum_ms / total) if sum_ms is not None and total else NOTHING
        row = (str(program["runs"]), milliseconds(ms), milliseconds(sum_ms), share)
        table.add_row(cell(program["name"]), *map(cell, row))
    told = f"sum of {clip['figure']}" if clip.get("figure") else "sum"
    table.add_row(cell(told, "bold"), "", "", cell(milliseconds(total), "bold"), "")
    table.add_row(cell("per frame", "bold"), "", "", cell(milliseconds(clip["ms_per_frame"]), "bold"), "")
    if total is None:
        table.caption = EMULATED if clip["emulated"] else "not every program of the clip has a latency"
    return table


def _print_remarks(measurements: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what must be known beside the figures: each remark once, with the rows that it is about."""
    shown = [Named(each["program"], bundle_title(each["bundle"]), each["device"]["name"]) for each in measurements]
    with_names = list(zip(shown, measurements, strict=True))
    for style, mark, texts_of in (
        ("", "", lambda each: [sustained_title(each["sustained"])] if each.get("sustained") else []),
        ("yellow", f"{MARK} ", lambda each: each["warnings"]),
        ("dim", "", lambda each: each["notes"]),
    ):
        remarks = ((named, text) for named, each in with_names for text in texts_of(each))
        for text, names in remarks_by_text(remarks, shown).items():
            print_line(console, f"{mark}{names}{text}", style)
