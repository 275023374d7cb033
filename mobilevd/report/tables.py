"""Tables of the report: the cumulative one beside the published, exports, latencies by device, and pairs of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.figures import columns, distance_names, number, significant
from eval.published import PUBLISHED, PublishedRow
from eval.report import cell, reason_for, with_ratios
from mobilevd.report.run_data import ReportedRow, ReportedRun

NOTHING = "–"
LIKE_ITS_RATIO = "flops_per_clip"
"""A figure whose column is left out for room: its ratio to the base says the same."""


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and why it is empty or doubtful, if it is."""

    text: str
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """A table: headers, and rows of a name and cells; `notes` stand below it.

    Attributes:
        groups: (title, number of columns) of the headers above the headers; empty without.
    """

    headers: list[str]
    rows: list[tuple[str, list[Cell]]]
    notes: list[str]
    groups: list[tuple[str, int]]


def cumulative_table(run: ReportedRun) -> Table:
    """The run's rows; where the same steps were published, the paper's figures beside them."""
    rows, common = with_ratios([row.figures for row in run.rows]), run.results.get("unavailable") or {}
    mixed = len(distance_names(rows)) > 1
    shown, notes = [], []
    for column in columns(rows):
        if column.key == LIKE_ITS_RATIO:
            continue
        reasons = {reason_for(row, column.key, common) for row in rows if cell(row, column, mixed) is None}
        if all(cell(row, column, mixed) is None for row in rows) and len(reasons) == 1:
            notes.append(f"{column.header} unavailable: {reasons.pop()}")
        else:
            shown.append(column)
    has_published = any(row.published for row in run.rows)
    table: list[tuple[str, list[Cell]]] = []
    for row, reported in zip(rows, run.rows, strict=True):
        cells = []
        for column in shown:
            text = cell(row, column, mixed)
            doubts = row.get(f"{column.key}_doubts") or []
            cells.append(
                Cell(text, "; ".join(map(str, doubts))) if text else Cell(NOTHING, reason_for(row, column.key, common))
            )
        table.append((reported.name, cells + (_published_cells(reported.published) if has_published else [])))
    headers = [column.header for column in shown]
    groups = [("this run", len(headers)), ("the paper", len(PUBLISHED_HEADERS))] if has_published else []
    if has_published:
        notes.append(
            "The paper's figures (arXiv 2412.07583) are of SVD, of FVD on UCF-101 at 7 fps, and of a Xiaomi 14 Pro: "
            "another model, other data, another distance. What compares is how a step changes them."
        )
    return Table(headers + (PUBLISHED_HEADERS if has_published else []), table, notes, groups)


PUBLISHED_HEADERS = ["FVD", "TFLOPs", "phone ms", "against base"]


def _published_cells(row: PublishedRow | None) -> list[Cell]:
    if row is None:
        return [Cell(NOTHING, "no published row of these steps")] * len(PUBLISHED_HEADERS)
    ratio = PUBLISHED[0].tflops_per_clip / row.tflops_per_clip
    phone = Cell(f"{row.phone_ms:,.0f}") if row.phone_ms else Cell(NOTHING, "the phone ran out of memory")
    fewer = "1x" if ratio == 1 else f"{significant(ratio)}x fewer"
    return [Cell(f"{row.fvd_7:g}"), Cell(f"{row.tflops:.2f}"), phone, Cell(fewer)]


def export_table(run: ReportedRun) -> Table | None:
    """Parity and delegation of every bundle; None without one."""
    rows = [
        (f"{row.name}: {manifest['target']} {manifest['precision']}", _export_cells(program))
        for row in run.rows
        for manifest in row.manifests.values()
        for program in manifest["programs"].values()
    ]
    headers = ["PSNR dB", "in half dB", "arithmetic", "delegates", "operators outside", "FLOPs delegated", "MB"]
    note = "PSNR is against the model in float32; below the gate of its precision nothing is exported."
    return Table(headers, rows, [note], []) if rows else None


def _export_cells(program: Mapping[str, Any]) -> list[Cell]:
    parity, delegation = program.get("parity") or {}, program.get("delegation") or {}
    reason = str(parity.get("reason") or "not executed here")
    half = (parity.get("half") or {}).get("psnr_db")
    outside, share = delegation.get("operators_outside"), delegation.get("flops_share")
    return [
        _figure(parity.get("psnr_db"), ".1f", reason),
        _figure(half, ".1f", "of programs in half precision alone"),
        Cell(str(parity.get("arithmetic") or NOTHING), "" if parity.get("arithmetic") else reason),
        _figure(delegation.get("delegates"), "d", "this target has no delegates"),
        Cell(str(len(outside)) if isinstance(outside, list) else NOTHING),
        _figure(share, ".0%", "not counted"),
        _figure(program.get("size_bytes", 0) / 1e6 or None, ".2f", "not known"),
    ]


def _figure(value: Any, form: str, reason: str) -> Cell:
    return Cell(format(value, form)) if isinstance(value, (int, float)) else Cell(NOTHING, reason)


def latency_table(run: ReportedRun) -> Table | None:
    """Every measurement of the run with its device and interval; None without one."""
    rows = [
        (f"{row.name}: {_measured(bench)}", _latency_cells(bench)) for row in run.rows for bench in row.benches.values()
    ]
    headers = ["figure, ms", "95 % interval", "p90", "runs", "threads", "processor", "warnings"]
    note = "An interval needs enough independent samples; where there are too few, there is none."
    return Table(headers, rows, [note], []) if rows else None


def _measured(bench: Mapping[str, Any]) -> str:
    """The program and the device of a measurement."""
    bundle, device = bench.get("bundle") or {}, bench.get("device") or {}
    program = " ".join(str(bundle[key]) for key in ("target", "precision") if key in bundle)
    return ", ".join(filter(None, (program, str(device.get("name", "device")))))


def _latency_cells(bench: Mapping[str, Any]) -> list[Cell]:
    summary, figure = bench.get("summary") or {}, bench.get("figure") or {}
    low, high = summary.get("median_ci_low"), summary.get("median_ci_high")
    warnings = [str(warning) for warning in bench.get("warnings") or []]
    emulated = "emulated: its times are no latencies" if bench.get("emulated") else "not measured"
    device = bench.get("device") or {}
    return [
        _figure(figure.get("ms"), ".2f", emulated),
        Cell(f"{low:.2f} to {high:.2f}") if low and high else Cell(NOTHING, "too few independent samples"),
        _figure(summary.get("p90"), ".2f", emulated),
        _figure(summary.get("n"), "d", emulated),
        Cell(str((bench.get("protocol") or {}).get("threads") or NOTHING)),
        Cell(str(device.get("cpu") or device.get("model") or NOTHING)),
        Cell(str(len(warnings)) if warnings else "none", "; ".join(warnings)),
    ]


def pairs_table(run: ReportedRun) -> Table | None:
    """Differences of distances between every two rows, in pairs of clips; None for runs without them."""
    rows = []
    for pair in run.results.get("pairs") or []:
        compared = pair.get("distance") if isinstance(pair, Mapping) else None
        if not isinstance(compared, Mapping):
            continue
        first, second = pair["rows"]
        cells = [Cell(significant(compared[key])) for key in ("difference", "low", "high")]
        verdict = Cell("equal within noise" if compared["equal_within_noise"] else "differs")
        rows.append((f"{second} against {first}", [*cells, verdict]))
    return Table(["difference", "from", "to", "verdict"], rows, [], []) if rows else None


def raw_figures(row: ReportedRow) -> list[tuple[str, str]]:
    """Every number of a row in results.json, as it is there."""
    return [
        (key, repr(value))
        for key, value in row.figures.items()
        if isinstance(value, (int, float)) and value is not True
    ]


def headline(run: ReportedRun) -> list[tuple[str, str, str]]:
    """The figures in large letters: what it is, the figure, and what it is compared with."""
    if not run.rows:
        return []
    rows = with_ratios([row.figures for row in run.rows])
    first, last = rows[0], rows[-1]
    tiles = []
    if ratio := number(last, "flops_ratio"):
        tiles.append(("FLOPs of a clip", f"{significant(ratio)}x fewer", "the last row against the base"))
    own, base = number(last, "distance"), number(first, "distance")
    if own is not None and base:
        name = last.get("distance_name", "distance")
        tiles.append((str(name), f"{significant(own)}", f"base {significant(base)}, real clips 0; lower is better"))
    if own_size := number(last, "parameters"):
        before = number(first, "parameters") or own_size
        tiles.append(("parameters", f"{significant(own_size / 1e6)} M", f"base {significant(before / 1e6)} M"))
    for key, name in (("device_ms", "on the device"), ("host_ms", "on this host")):
        if latency := number(last, key):
            doubtful = ", doubtful" if last.get(f"{key}_doubts") else ""
            tiles.append((f"latency {name}", f"{significant(latency)} ms", f"one evaluation of the program{doubtful}"))
    return tiles


def quality_rows(run: ReportedRun) -> Sequence[ReportedRow]:
    """Rows that have a distance."""
    return [row for row in run.rows if (number(row.figures, "distance") or 0) > 0]
