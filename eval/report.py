"""The cumulative table of a run (PAPER table 1, for the user's own model), in the terminal and as Markdown.

Both are made from `results.json` alone. A row must have `name`; a figure that is missing or null is shown as
unavailable, with the reason from `row["unavailable"][key]` (or `results["unavailable"][key]` for all rows) if it is
given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.figures import Figure, Row, columns, distance_names, number, significant
from eval.report_pairs import DOUBTFUL, EQUAL, is_equal_to_previous, legend, pairs_markdown
from mobilevd.files import atomic_write_text
from mobilevd.plain_text import markdown_text

NO_REASON = "not measured"
# Terminal columns from which on there is room for all figures.
WIDE = 140
DISTANCE = "distance"


def reason_for(row: Row, key: str, common: Mapping[str, str]) -> str:
    return (row.get("unavailable") or {}).get(key) or common.get(key) or NO_REASON


def with_ratios(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with `flops_ratio` filled in, against the first row, the base, where only `flops_per_clip` is given."""
    base = number(rows[0], "flops_per_clip") if rows else None
    filled = []
    for row in rows:
        own = number(row, "flops_per_clip")
        ratio = number(row, "flops_ratio")
        if ratio is None and base and own:
            ratio = base / own
        filled.append({**row, "flops_ratio": ratio})
    return filled


def cell(row: Row, column: Figure, mixed_names: bool) -> str | None:
    """The text of a figure; None if it is unavailable."""
    value = number(row, column.key)
    if value is None:
        return None
    text = column.write(value)
    high = number(row, f"{column.key}_high")
    if high is not None:
        text += f" ± {significant(high - value, 2)}"
    if row.get(f"{column.key}_doubts"):
        text += f" {DOUBTFUL}"
    if column.key == DISTANCE and is_equal_to_previous(row):
        text += f" {EQUAL}"
    # With two kinds of distance in one column, each number carries its name.
    return f"{text} ({row.get('distance_name', 'unnamed')})" if column.key == DISTANCE and mixed_names else text


def describe_protocol(protocol: Mapping[str, Any], distance_name: str = "distance") -> str:
    """The computation of the distance in one line, from the `protocol` of `evaluate_clips`."""
    p, parts = protocol, []
    if "generated_clips" in p and "reference_clips" in p:
        parts.append(f"{p['generated_clips']} generated against {p['reference_clips']} reference clips")
    if "frames" in p and "height" in p and "width" in p:
        rate = f" at {p['fps']:g} fps" if p.get("fps") else ""
        parts.append(f"{p['frames']} frames of {p['width']}x{p['height']}{rate}")
    if "extractor" in p:
        details = [f"{p['feature_dim']} features"] if "feature_dim" in p else []
        if "input_size" in p:
            details.append(f"input {p['input_size'][1]}x{p['input_size'][0]}")
        if "resize" in p:
            details.append(f"resize {p['resize']}")
        parts.append(f"features of {p['extractor']}" + (f" ({', '.join(details)})" if details else ""))
    known = {"generated_clips", "reference_clips", "frames", "height", "width", "fps"}
    known |= {"extractor", "feature_dim", "input_size", "resize"}
    parts += [f"{key.replace('_', ' ')} {value}" for key, value in p.items() if key not in known]
    return f"{distance_name}: Frechet distance, " + "; ".join(parts) if parts else f"{distance_name}: protocol unknown"


def name_of_distance(rows: Sequence[Row]) -> str:
    return next(figure.header for figure in columns(rows) if figure.key == DISTANCE)


def render_table(
    rows: Sequence[Row],
    console: Console,
    *,
    protocol: Mapping[str, Any] | None = None,
    unavailable: Mapping[str, str] | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Print the cumulative table, and below it the protocol, the remarks and the reasons for unavailable figures.

    A column in which every figure is unavailable for the same reason is left out; the line below says so.
    """
    common, rows = unavailable or {}, with_ratios(rows)
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, int(console.width >= WIDE)), pad_edge=False)
    table.add_column("model", overflow="fold", min_width=20)
    mixed = len(distance_names(rows)) > 1
    notes, kept = [], []
    shown = [column for column in columns(rows) if console.width >= WIDE or not column.is_wide]
    for column in shown:
        reasons = {reason_for(row, column.key, common) for row in rows if cell(row, column, mixed) is None}
        everywhere = all(cell(row, column, mixed) is None for row in rows)
        if not everywhere or len(reasons) > 1:
            kept.append(column)
            table.add_column(column.header, justify="right", no_wrap=True)
        for reason in sorted(reasons):
            lacking = [row for row in rows if cell(row, column, mixed) is None]
            of = [row["name"] for row in lacking if reason_for(row, column.key, common) == reason]
            where = "" if everywhere and len(reasons) == 1 else f" for {', '.join(of)}"
            notes.append(f"{column.header} unavailable{where}: {reason}")
    for row in rows:
        cells = [Text(cell(row, column, mixed) or "unavailable") for column in kept]
        table.add_row(Text(str(row["name"])), *cells)  # Text: a name with [brackets] is no markup
    console.print(table)
    if protocol:
        console.print(Text(describe_protocol(protocol, name_of_distance(rows)), style="dim"))
    for note in [*legend(rows), *remarks, *notes]:
        console.print(Text(note, style="dim"))


def _link(name: Any, target: Any) -> str:
    """A link to a file beside the report; the name alone if the target is anything else."""
    inside = isinstance(target, str) and re.fullmatch(r"[\w. -]+(/[\w. -]+)*", target) and ".." not in target.split("/")
    return f"[{markdown_text(name)}](<{target}>)" if inside else markdown_text(name)


def markdown_table(rows: Sequence[Row], unavailable: Mapping[str, str] | None = None) -> str:
    """The cumulative table in Markdown; an unavailable figure is written out with its reason, below the table if it is the
    same in all rows."""
    common, rows = unavailable or {}, with_ratios(rows)
    mixed = len(distance_names(rows)) > 1
    shown, notes = [], []
    for column in columns(rows):
        reasons = {reason_for(row, column.key, common) for row in rows if cell(row, column, mixed) is None}
        if len(reasons) == 1 and all(cell(row, column, mixed) is None for row in rows):
            notes += ["", f"{markdown_text(column.header)} unavailable: {markdown_text(reasons.pop())}"]
        else:
            shown.append(column)
    lines = [
        "| model | " + " | ".join(markdown_text(c.header) for c in shown) + " |",
        "|---" + "|---:" * len(shown) + "|",
    ]
    for row in rows:
        cells = [cell(row, c, mixed) or f"unavailable: {reason_for(row, c.key, common)}" for c in shown]
        lines.append("| " + " | ".join(map(markdown_text, [row["name"], *cells])) + " |")
    return "\n".join([*lines, *notes])


def _listed(value: Any) -> Any:
    """A mapping as "torch 2.13.0, executorch 1.5.1"; any other value unchanged."""
    return ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, Mapping) else value


def _details(row: Row) -> list[str]:
    """Lines with the notes and links of one row; `samples` maps a word to a path relative to the report."""
    samples = ", ".join(_link(name, target) for name, target in (row.get("samples") or {}).items())
    notes = row.get("notes")
    texts = [notes] if isinstance(notes, str) else list(notes or [])
    parts = [part for part in [markdown_text(" ".join(map(str, texts))), samples] if part]
    return [f"- **{markdown_text(row['name'])}**: {'; '.join(parts)}"] if parts else []


def write_report_markdown(path: Path | str, results: Mapping[str, Any]) -> None:
    """Write the report of a run from its results (the content of `results.json`)."""
    rows = results.get("rows") or []
    facts = {"created": results.get("created"), "seed": results.get("seed"), **(results.get("machine") or {})}
    lines = [f"# {markdown_text(results.get('name', 'run'))}", ""]
    lines += [
        f"- {markdown_text(str(key).replace('_', ' '))}: {markdown_text(_listed(value))}"
        for key, value in facts.items()
        if value is not None
    ]
    lines += ["", "## Cumulative effect", ""]
    if rows:
        lines += [markdown_text(describe_protocol(results.get("protocol") or {}, name_of_distance(rows))), ""]
        lines += [markdown_table(rows, results.get("unavailable")), ""]
        lines += [
            "Motion is the mean frame-to-frame change over that of the reference clips (1 is right). FLOPs count a",
            "multiply-accumulate as 2, for one function evaluation; per clip they are multiplied by NFE.",
        ]
        for line in (*legend(rows), *(results.get("remarks") or [])):
            lines += ["", markdown_text(line)]
        lines += pairs_markdown(results.get("pairs") or [], [str(row["name"]) for row in rows], name_of_distance(rows))
    else:
        lines.append("No stage has finished yet.")
    details = [line for row in rows for line in _details(row)]
    if details:
        lines += ["", "## Samples and notes", "", *details]
    atomic_write_text(path, "\n".join(lines) + "\n")
