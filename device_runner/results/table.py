"""The report in the terminal: a table per device and protocol, so that a measurement's row fits 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from device_runner.results.terminal import cell, new_table, print_line
from device_runner.results.wording import (
    EMULATED,
    NOTHING,
    clip_title,
    device_title,
    measurement_title,
    mebibytes,
    milliseconds,
    percent,
    protocol_title,
    sustained_title,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MARK = "!"
"""Mark in the last column for warnings, which are listed below the table."""
READABLE_WIDTH = 80
"""Width below which every name is folded, so that no number is cut."""
_Group = tuple[str, str, str, str | None]


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print one row per measurement, clips with the sum of their programs, then warnings, notes and failures."""
    groups: dict[_Group, list[Mapping[str, Any]]] = {}
    for measurement in report["measurements"]:
        groups.setdefault(_group(measurement), []).append(measurement)
    for (device, protocol, runner, figure), measurements in groups.items():
        print_line(console, f"{device}", "bold")
        print_line(console, f"{protocol}, runner {runner}", "dim")
        wide = console.width >= READABLE_WIDTH
        console.print(_emulated_table(measurements) if figure is None else _table(measurements, figure, wide))
        console.print()
    for clip in report["clips"]:
        print_line(console, clip_title(clip), "bold")
        console.print(_clip_table(clip))
        console.print()
    for measurement in report["measurements"]:
        _print_remarks(measurement, console)
    for failure in report["failures"]:
        what = f"{failure['program']} of {failure['bundle']}" if failure["program"] else failure["bundle"]
        print_line(console, f"failed: {what} on {failure['device']}: {failure['error']}", "bold red")


def _group(measurement: Mapping[str, Any]) -> _Group:
    """The key of a table: its rows' figures may be compared."""
    figure = measurement["figure"]
    return (
        device_title(measurement["device"]),
        protocol_title(measurement["protocol"]),
        measurement["runner"]["name"],
        figure["name"] if figure else None,
    )


def _table(measurements: list[Mapping[str, Any]], figure: str, wide: bool) -> Table:
    table = new_table()
    for name in ("bundle", "precision", "program"):
        table.add_column(name, overflow="fold", no_wrap=wide and name != "bundle")
    others = [name for name in ("p50", "p90") if name != figure]
    # The main figure comes first, since it represents the measurement.
    for name in (f"{figure}\nms", *(f"{other}\nms" for other in others), "CV\n%", "load\nms", "peak\nMiB", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for each in measurements:
        summary = each["summary"]
        table.add_row(
            *(cell(text) for text in _names(each)),
            cell(milliseconds(each["figure"]["ms"]), "bold"),
            *(cell(milliseconds(summary.get(name))) for name in others),
            cell(NOTHING if summary.get("cv") is None else f"{100 * summary['cv']:.1f}"),
            cell(milliseconds(each["load_ms"])),
            cell(mebibytes(each["memory"].get("peak_rss_bytes"))),
            cell(MARK if each["warnings"] else "", "bold yellow"),
        )
    return table


def _emulated_table(measurements: list[Mapping[str, Any]]) -> Table:
    table = new_table()
    for name in ("bundle", "precision", "program", "result"):
        table.add_column(name, overflow="fold")
    for each in measurements:
        table.add_row(*(cell(text) for text in _names(each)), cell(EMULATED, "yellow"))
    return table


def _names(measurement: Mapping[str, Any]) -> tuple[str, str, str]:
    return measurement["bundle"]["name"], measurement["bundle"]["precision"], measurement["program"]


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


def _print_remarks(measurement: Mapping[str, Any], console: Console) -> None:
    what = f"{measurement_title(measurement)} on {measurement['device']['name']}"
    if measurement.get("sustained"):
        print_line(console, f"{what}: {sustained_title(measurement['sustained'])}", "")
    for warning in measurement["warnings"]:
        print_line(console, f"{MARK} {what}: {warning}", "yellow")
    for note in measurement["notes"]:
        print_line(console, f"{what}: {note}", "dim")
