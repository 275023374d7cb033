"""Latency tables of blocks, and predictions from them, in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

TOP = 12


def print_block_table(table: Mapping[str, Any], console: Console) -> None:
    """Print the rows, their sum beside the whole model, and the saving from deleting each temporal block."""
    title = f"blocks of {table['model']} on {table['device']['name']}, {table['precision']}"
    console.print(_rows(title, table["rows"], with_times=True))
    by_round = ", ".join(f"{error:+.1f}" for error in table["error_percent_by_round"])
    _line(
        console,
        f"sum of {table['covered']['blocks']} blocks and one call ({1000 * table['call_ms']:.1f} us): "
        f"{table['predicted_ms']:.3f} ms; measured as one program: {table['measured_ms']:.3f} ms; error "
        f"{table['error_percent']:+.1f} % (by round: {by_round})",
    )
    for warning in table["warnings"]:
        _line(console, f"  {warning}")
    _print_savings(table["temporal_blocks"], console)


def print_prediction(prediction: Mapping[str, Any], console: Console) -> None:
    """Print the predicted latency, what the table lacks, and the saving from deleting each temporal block."""
    title = f"{prediction['model']} by the blocks of {prediction['table_of']}, {prediction['precision']}"
    console.print(_rows(title, prediction["rows"], with_times=True))
    where = prediction["device"]["name"]
    if prediction["complete"]:
        _line(
            console,
            f"predicted on {where}: {prediction['predicted_ms']:.3f} ms; {prediction['corrected_ms']:.3f} ms if it differs "
            f"from its blocks' sum as {prediction['table_of']} did",
        )
    else:
        console.print(_rows("not in the table", prediction["missing"], with_times=False))
        _line(
            console,
            f"the table has {prediction['flops_covered_share']:.1%} of the model's FLOPs, "
            f"{prediction['predicted_ms']:.3f} ms on {where}; measure a model with the missing blocks",
        )
    _print_savings(prediction["temporal_blocks"], console)


def _rows(title: str, rows: Sequence[Mapping[str, Any]], with_times: bool) -> Table:
    table = Table(title=title)
    table.add_column("block", overflow="fold")
    for column in ("in", "x", "weights", "MFLOPs", *(("ms", "all ms", "GF/s") if with_times else ())):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            row["type"],
            "x".join(map(str, row["shape_in"])),
            str(len(row["occurrences"])),
            _short(row["parameters"]),
            f"{row['flops'] / 1e6:.1f}",
        ]
        if with_times:
            speed = row["gflops_per_s"]
            cells += [f"{row['ms']:.3f}", f"{row['total_ms']:.3f}", "-" if speed is None else f"{speed:.1f}"]
        table.add_row(*cells)
    return table


def _print_savings(blocks: Iterable[Mapping[str, Any]], console: Console) -> None:
    shown = list(blocks)
    if not shown:
        return
    table = Table(title="what deleting a temporal block would save")
    table.add_column("block", overflow="fold")
    for column in ("ms", "share", "weights", "MFLOPs"):
        table.add_column(column, justify="right", no_wrap=True)
    for block in shown[:TOP]:
        table.add_row(
            block["block"],
            f"{block['ms']:.3f}",
            "-" if block["share"] is None else f"{block['share']:.1%}",
            _short(block["parameters"]),
            f"{block['flops'] / 1e6:.1f}",
        )
    console.print(table)
    if rest := shown[TOP:]:
        _line(console, f"{len(rest)} more save {sum(block['ms'] for block in rest):.3f} ms together")


def _short(count: int) -> str:
    """1234567 -> "1.2M"."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return str(count)


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
