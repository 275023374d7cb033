"""The latency table of blocks, measured for real on this host, and what is predicted from it."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from device_runner.protocol.protocol import Protocol
from mobilevd.commands.block_display import print_block_table, print_prediction
from mobilevd.commands.block_table import block_table, predict, predict_file
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.temporal_pruning import keep_temporal_blocks
from tests.export.lowered import equal_models_traced_once
from tests.export.models import plain_unet
from tests.mobilevd.transforms.specs import transform_of

SHORT = Protocol(warmup=1, iterations=3, threads=1)


def small() -> SpatioTemporalUNet:
    return plain_unet(sample_size=8)


def saved(model: SpatioTemporalUNet, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    with equal_models_traced_once():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


@pytest.fixture(scope="module")
def table(folder: Path) -> dict[str, Any]:
    console = Console(file=open(folder / "said.txt", "w", encoding="utf-8"), width=80)
    return block_table(saved(small(), folder / "full"), "host", SHORT, folder / "table.json", console, rounds=2)


def test_every_block_is_measured_and_the_sum_is_set_against_the_whole(table: dict[str, Any], folder: Path) -> None:
    assert json.loads((folder / "table.json").read_text()) == table
    rows = table["rows"]
    assert sum(len(row["occurrences"]) for row in rows) == table["covered"]["blocks"] > len(rows)
    for row in rows:
        samples = table["samples_ms"][row["key"]]
        assert [len(each) for each in samples] == [3, 3]
        assert row["measured_ms"] == statistics.median(sample for each in samples for sample in each)
        assert row["ms"] == pytest.approx(max(row["measured_ms"] - table["call_ms"], 0))
        assert row["total_ms"] == pytest.approx(row["ms"] * len(row["occurrences"]))
        assert row["ms"] == 0 or row["gflops_per_s"] == pytest.approx(row["flops"] / row["ms"] / 1e6)
    assert table["predicted_ms"] == pytest.approx(table["call_ms"] + sum(row["total_ms"] for row in rows))
    error = 100 * (table["predicted_ms"] / table["measured_ms"] - 1)
    assert table["error_percent"] == pytest.approx(error) and len(table["error_percent_by_round"]) == 2
    # how close they are depends on what else the machine does; this much apart is no noise
    assert 0.1 < table["predicted_ms"] / table["measured_ms"] < 10
    assert table["device"]["name"] == "host" and table["protocol"]["iterations"] == 3


def test_temporal_blocks_are_sorted_by_what_they_cost(table: dict[str, Any]) -> None:
    blocks = table["temporal_blocks"]
    assert {block["block"] for block in blocks} == set(small().temporal_block_names())
    assert [block["ms"] for block in blocks] == sorted((block["ms"] for block in blocks), reverse=True)
    rows = {name: row for row in table["rows"] for name in row["occurrences"] if row["type"].startswith("temporal")}
    for block in blocks:
        assert block["ms"] == rows[block["block"]]["ms"] and block["parameters"] == rows[block["block"]]["parameters"]
        assert block["share"] == pytest.approx(block["ms"] / table["predicted_ms"])


def test_a_pruned_model_is_predicted_by_what_its_blocks_took(table: dict[str, Any], folder: Path) -> None:
    kept = ["mid_block.attentions.0", "up_blocks.0.resnets.0"]
    pruned = saved(keep_temporal_blocks(small(), kept), folder / "pruned")
    prediction = predict_file(folder / "table.json", pruned)
    assert prediction["complete"] and not prediction["missing"] and prediction["flops_covered_share"] == 1
    saving = sum(block["ms"] for block in table["temporal_blocks"] if block["block"] not in kept)
    assert prediction["predicted_ms"] == pytest.approx(table["predicted_ms"] - saving)
    assert {block["block"] for block in prediction["temporal_blocks"]} == set(kept)
    own = predict(table, folder / "full")
    assert own["predicted_ms"] == pytest.approx(table["predicted_ms"])
    assert own["corrected_ms"] == pytest.approx(table["measured_ms"])
    assert f"{own['corrected_ms']:.3f} ms if" in printed(lambda console: print_prediction(own, console))


def test_blocks_of_other_widths_are_missing_and_named(table: dict[str, Any], folder: Path) -> None:
    transform = transform_of({"kind": "funnels", "attention": 0.5, "convolution": 0.5})
    narrow = saved(transform.finish(transform.begin(small())), folder / "narrow")
    prediction = predict(table, narrow)
    assert not prediction["complete"] and 0 < prediction["flops_covered_share"] < 1
    assert all(block["share"] is None for block in prediction["temporal_blocks"])
    missing = {row["type"] for row in prediction["missing"]}
    assert "spatial residual" in missing and "conv_in" not in missing and "transformer output" not in missing
    assert {row["key"] for row in prediction["rows"]}.isdisjoint(row["key"] for row in prediction["missing"])
    text = printed(lambda console: print_prediction(prediction, console))
    assert "not in the table" in text and f"{prediction['flops_covered_share']:.1%}" in text


def test_what_is_printed_fits_a_terminal(table: dict[str, Any]) -> None:
    text = printed(lambda console: print_block_table(table, console))
    lines = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    assert lines and all(len(line) <= 80 for line in lines)
    assert f"{table['predicted_ms']:.3f}" in text and f"{table['measured_ms']:.3f}" in text
    assert table["temporal_blocks"][0]["block"] in text


def test_what_is_no_table_is_refused(table: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    with pytest.raises(UserError, match=r"table\.json: cannot be read as JSON"):
        predict_file(file, folder / "full")
    for content, what in (
        ([], "not a latency table"),
        ({"kind": "report"}, "not a latency table"),
        ({**table, "schema_version": 99}, "this program reads version 1"),
        ({**table, "rows": [{}]}, "rows"),
        ({key: value for key, value in table.items() if key != "call_ms"}, "call_ms"),
        ({**table, "predicted_ms": 0}, "predicted_ms must be a positive number"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(UserError, match=what):
            predict_file(file, folder / "full")


def test_a_model_in_the_middle_of_a_stage_is_refused(folder: Path, tmp_path: Path) -> None:
    gated = transform_of({"kind": "temporal_pruning", "keep": 2}).begin(copy.deepcopy(small()))
    with pytest.raises(UserError, match="temporal gates"):
        block_table(saved(gated, tmp_path / "gated"), "host", SHORT, None, Console(quiet=True))
    with pytest.raises(UserError, match="is a folder"):
        block_table(folder / "full", "host", SHORT, tmp_path, Console(quiet=True))


def printed(show: Any) -> str:
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w", encoding="utf-8"))
    show(console)
    return console.export_text()
