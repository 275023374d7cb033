"""The rows of a latency table: a model's blocks, equal ones counted together, and figures from sums of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.blocks.cut import Piece, cut
from export.generator.one_step import OneStepSettings
from export.generator.unet_program import unet_program
from export.model import default_settings
from export.program.program import Program
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet


def read_program(model: Path) -> tuple[Program, OneStepSettings]:
    """The folded one-step program of a model folder, at the model's own size; UserError for an unfinished model."""
    unet = SpatioTemporalUNet.from_pretrained(model)
    settings = default_settings(unet)
    return unet_program(unet, settings, consume=True), settings


def model_name(model: Path) -> str:
    """The name of a model folder in tables; in a run, where every folder is called `model`, the stage's name."""
    folder = model.resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def cut_program(program: Program) -> list[Piece]:
    """Cut the program into blocks; UserError if XNNPACK does not have all of its operators."""
    return cut(program.graph(phone_form=True))


def rows_of(pieces: Iterable[Piece]) -> list[dict[str, Any]]:
    """One row per distinct block, in the order in which they first run, with its occurrences; without times."""
    rows: dict[str, dict[str, Any]] = {}
    for piece in pieces:
        row = rows.setdefault(
            piece.key,
            {
                "type": piece.block.kind,
                "key": piece.key,
                "shape_in": list(max((edge.shape for edge in piece.inputs), key=math.prod)),
                "shapes_in": [list(edge.shape) for edge in piece.inputs],
                "shapes_out": [list(edge.shape) for edge in piece.outputs],
                "occurrences": [],
                "parameters": piece.parameters,
                "flops": piece.flops,
            },
        )
        row["occurrences"].append(piece.block.name)
    return list(rows.values())


def with_times(row: Mapping[str, Any], measured_ms: float, call_ms: float) -> dict[str, Any]:
    """Return a row with its time, minus the cost of calling any program."""
    ms = max(measured_ms - call_ms, 0.0)
    return {
        **row,
        "measured_ms": measured_ms,
        "ms": ms,
        "total_ms": ms * len(row["occurrences"]),
        "gflops_per_s": row["flops"] / ms / 1e6 if ms else None,
    }


def predicted_ms(rows: Iterable[Mapping[str, Any]], call_ms: float) -> float:
    """The predicted latency of one evaluation, in ms: one call, and every block."""
    return call_ms + sum(row["total_ms"] for row in rows)


def temporal_savings(
    pieces: Iterable[Piece], rows: Sequence[Mapping[str, Any]], total_ms: float | None
) -> list[dict[str, Any]]:
    """The saving from deleting each temporal block, largest first: ms, share of `total_ms`, parameters, FLOPs.

    Blocks that are not in `rows` are left out. Without a known `total_ms` the shares are None.
    """
    ms_of = {row["key"]: row["ms"] for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for piece in pieces:
        if piece.block.temporal and piece.key in ms_of:
            before = found.get(piece.block.name, {"ms": 0.0, "parameters": 0, "flops": 0})
            found[piece.block.name] = {
                "block": piece.block.name,
                "type": piece.block.kind,
                "ms": before["ms"] + ms_of[piece.key],
                "parameters": before["parameters"] + piece.parameters,
                "flops": before["flops"] + piece.flops,
            }
    savings = sorted(found.values(), key=lambda block: -block["ms"])
    return [{**block, "share": block["ms"] / total_ms if total_ms else None} for block in savings]


def check_table(table: Any, kind: str, version: int, where: str) -> None:
    """Raise UserError unless `table` is a saved latency table of the given kind and version."""
    if not isinstance(table, Mapping) or table.get("kind") != kind:
        raise UserError(
            f"{where}: not a latency table of blocks (kind {kind}); `mobilevd bench --blocks MODEL --json FILE` writes one"
        )
    if table.get("schema_version") != version:
        raise UserError(
            f"{where}: schema_version is {table.get('schema_version')!r}; this program reads version {version}"
        )
    for key in ("call_ms", "measured_ms", "predicted_ms"):
        if not isinstance(table.get(key), int | float) or not table[key] > 0:
            raise UserError(f"{where}: {key} must be a positive number, not {table.get(key)!r}")
    rows = table.get("rows")
    if not isinstance(rows, list) or not all(
        isinstance(row, Mapping) and isinstance(row.get("key"), str) and isinstance(row.get("measured_ms"), int | float)
        for row in rows
    ):
        raise UserError(f"{where}: rows must be a list of blocks, each with key and measured_ms")
    for key in ("model", "device", "protocol", "precision"):
        if key not in table:
            raise UserError(f"{where}: {key} is missing")
