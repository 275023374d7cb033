"""The latency table: each distinct block of a UNet measured on a device as a program of its own.

The sum over a model's blocks predicts the model's latency on that device, even if the model was never exported: one
that keeps other temporal blocks, or has another number of layers. The prediction's error is measured along with it, on
the model that the blocks are from.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from device_runner.bundle.manifest import ModelEntry
from device_runner.bundle.whole_path import UNET
from device_runner.devices.base import Device
from device_runner.devices.kinds import open_device
from device_runner.measure.measure import Measurement, measure
from device_runner.protocol.protocol import Protocol, named_protocol
from export.bundle import Item, write_bundle
from export.program.program import Program
from export.targets import parse_target
from export.targets.base import Target
from mobilevd.commands.block_rows import (
    check_table,
    cut_program,
    model_name,
    predicted_ms,
    read_program,
    rows_of,
    temporal_savings,
    with_times,
)
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.json_files import load_json
from mobilevd.pipeline.display import Display

SCHEMA_VERSION = 1
KIND, PREDICTION = "block-latency-table", "block-latency-prediction"
TARGET = "executorch-xnnpack"
WHOLE, CALL = UNET, "call"
ROUNDS = 3
"""Rounds of measurement: blocks and the whole take turns, so that a device that slows down slows both."""


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


@dataclass
class _Samples:
    """The samples of one program, round by round."""

    rounds: list[list[float]] = field(default_factory=list)
    last: Measurement | None = None

    def add(self, measurement: Measurement) -> None:
        self.rounds.append(list(measurement.samples_ms) or [measurement.median_ms])
        self.last = measurement

    @property
    def median_ms(self) -> float:
        return statistics.median(sample for each in self.rounds for sample in each)


def block_table(
    model: Path,
    device: str,
    protocol: str | Protocol,
    out: Path | None,
    console: Console,
    *,
    precision: str = "fp32",
    adb: str | None = None,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Measure a model folder's distinct blocks and the whole model on a device in turns, and verify the outputs of all.

    In precisions other than fp32 each block converts its inputs and outputs, which the whole model does not do between
    blocks, so the sum is too high.

    Args:
        device: `host`, `adb` or `adb:SERIAL`.
        out: JSON file to write the table to.
        precision: a precision of the target executorch-xnnpack.
        adb: the adb program.

    Returns:
        The table, ready for JSON: `rows`, `call_ms` (the cost of calling any program, not part of any row's `ms`),
        `predicted_ms`, `measured_ms`, `error_percent` and the cost of each temporal block (`temporal_blocks`).

    Raises:
        UserError: unfinished model, operators that XNNPACK does not have, unknown precision.
        RunnerError: see `device_runner.measure.measure.measure`.
    """
    target, precision = parse_target(TARGET, precision)
    opened = open_device(device, adb)
    protocol = named_protocol(protocol) if isinstance(protocol, str) else protocol
    if out is not None and out.is_dir():
        raise UserError(f"{out}: is a folder; give the name of a file to write")
    display = Display(console)
    with TemporaryDirectory(prefix="mobilevd-blocks-") as scratch:
        folder = Path(scratch)
        program, settings = read_program(model)
        pieces = cut_program(program)
        rows = rows_of(pieces)
        with display.bar("exporting blocks", len(rows)) as bar:
            _write(program, target, precision, folder / WHOLE)
            example = torch.ones(1)
            _write(
                Program(CALL, _Double().eval(), {"noise": {"x": example}}, {"noise": [example * 2]}, ("y",)),
                target,
                "fp32",
                folder / CALL,
            )
            distinct = {piece.key: piece for piece in reversed(pieces)}
            for done, row in enumerate(rows, 1):
                _write(distinct[row["key"]].program(row["key"]), target, precision, folder / row["key"])
                bar.update(done, len(rows))
        samples = _measure_in_turns(
            [CALL, *(row["key"] for row in rows), WHOLE], folder, opened, protocol, rounds, display
        )
    call_ms = samples[CALL].median_ms
    timed = [with_times(row, samples[row["key"]].median_ms, call_ms) for row in rows]
    predicted, measured = predicted_ms(timed, call_ms), samples[WHOLE].median_ms
    whole = samples[WHOLE].last
    assert whole is not None
    table = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model_name(model),
        "size": {
            "num_frames": settings.num_frames,
            "latent_height": settings.latent_height,
            "latent_width": settings.latent_width,
        },
        "target": target.name,
        "precision": precision,
        "device": whole.device,
        "runner": whole.runner,
        "protocol": whole.protocol,
        "rounds": rounds,
        "call_ms": call_ms,
        "rows": timed,
        "predicted_ms": predicted,
        "measured_ms": measured,
        "error_percent": _error_percent(predicted, measured),
        "error_percent_by_round": [_error_of_round(i, rows, samples) for i in range(rounds)],
        "covered": {"operators": sum(len(piece.nodes) for piece in pieces), "blocks": len(pieces)},
        "temporal_blocks": temporal_savings(pieces, timed, predicted),
        "samples_ms": {name: each.rounds for name, each in samples.items()},
        "warnings": whole.warnings,
    }
    if out is not None:
        atomic_write_json(out, table)
    return table


def predict_file(table: Path, model: Path) -> dict[str, Any]:
    """Run `predict` with a saved table; UserError for a file that is not one."""
    try:
        content = load_json(table)
    except (OSError, ValueError) as error:
        raise UserError(f"{table}: cannot be read as JSON: {error}") from None
    return predict(content, model, where=str(table))


def predict(table: Mapping[str, Any], model: Path, where: str = "table") -> dict[str, Any]:
    """Predict a model folder's latency on the device of a table, without measuring anything.

    A block of the model is found in the table by its operators, shapes and parameters' shapes.

    Returns:
        `predicted_ms` of the blocks that the table has, the others under `missing` (`complete`: there are none), and
        the saving from deleting each temporal block. `corrected_ms` is `predicted_ms` times the ratio of the table's
        own model to the sum of its blocks: a block measured alone finds its weights in the processor's cache; in the
        whole model the other blocks have evicted them.

    Raises:
        UserError: not a table, unfinished model.
    """
    check_table(table, KIND, SCHEMA_VERSION, where)
    known = {row["key"]: row["measured_ms"] for row in table["rows"]}
    pieces = cut_program(read_program(model)[0])
    rows = rows_of(pieces)
    found = [with_times(row, known[row["key"]], table["call_ms"]) for row in rows if row["key"] in known]
    missing = [row for row in rows if row["key"] not in known]
    predicted = predicted_ms(found, table["call_ms"])
    flops = sum(piece.flops for piece in pieces)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": PREDICTION,
        "model": model_name(model),
        "table_of": table["model"],
        "device": table["device"],
        "protocol": table["protocol"],
        "precision": table["precision"],
        "predicted_ms": predicted,
        "corrected_ms": predicted * table["measured_ms"] / table["predicted_ms"],
        "complete": not missing,
        "missing": missing,
        "flops_covered_share": sum(piece.flops for piece in pieces if piece.key in known) / flops if flops else 1.0,
        "rows": found,
        "temporal_blocks": temporal_savings(pieces, found, None if missing else predicted),
    }


def _write(program: Program, target: Target, precision: str, folder: Path) -> None:
    """Write a bundle of one program, whatever its parity: below fp32, random inputs say little about it."""
    item = Item(program, precision)
    write_bundle([item], target, folder, name=program.name, model=ModelEntry(), allow_low_parity=precision != "fp32")


def _measure_in_turns(
    names: list[str], folder: Path, device: Device, protocol: Protocol, rounds: int, display: Display
) -> dict[str, _Samples]:
    """Measure every program once per round, each from the bundle of its name."""
    samples = {name: _Samples() for name in names}
    with display.bar(f"measuring on {device.name}", rounds * len(names)) as bar:
        for turn in range(rounds):
            for done, name in enumerate(names, turn * len(names) + 1):
                samples[name].add(measure(folder / name, device, protocol, name))
                bar.update(done, rounds * len(names))
    return samples


def _error_percent(predicted: float, measured: float) -> float:
    return 100 * (predicted - measured) / measured


def _error_of_round(turn: int, rows: list[dict[str, Any]], samples: Mapping[str, _Samples]) -> float:
    """The prediction's error from one round's samples alone, to see how much of it is noise."""
    ms = {name: statistics.median(each.rounds[turn]) for name, each in samples.items()}
    timed = [with_times(row, ms[row["key"]], ms[CALL]) for row in rows]
    return _error_percent(predicted_ms(timed, ms[CALL]), ms[WHOLE])
