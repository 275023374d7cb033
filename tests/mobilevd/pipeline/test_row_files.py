"""A run's figures are believed only as long as the weights and the program that they are of lie there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from mobilevd.commands.report import report_command
from mobilevd.errors import UserError
from mobilevd.pipeline.row_files import check_row_files, files_of_row


@pytest.fixture
def row(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "01-a"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "weights.safetensors").write_text("trained")
    return folder


def test_other_weights_than_the_judged_ones_are_seen(row: Path) -> None:
    recorded = files_of_row(row)
    assert set(recorded) == {"model/config.json", "model/weights.safetensors"}
    check_row_files(row, recorded)
    (row / "model" / "weights.safetensors").write_text("garbage")
    with pytest.raises(
        UserError, match=r"weights.safetensors: is not the file that the figures are of .*; delete .*01-a"
    ):
        check_row_files(row, recorded)
    (row / "model" / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights.safetensors: is not there any more"):
        check_row_files(row, recorded)
    with pytest.raises(UserError, match="do not tell which files they are of"):
        check_row_files(row, None)


def test_another_program_than_the_measured_one_is_seen(row: Path) -> None:
    (row / "bundle").mkdir()
    (row / "bundle" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest.json.*; delete"):
        check_row_files(row, files_of_row(row))


def test_the_report_of_a_copied_run_is_not_believed(row: Path) -> None:
    results = {"name": "run", "rows": [{"name": "a", "folder": "01-a", "files": files_of_row(row), "distance": 0.1}]}
    (row.parent / "results.json").write_text(json.dumps(results))
    (row / "model" / "weights.safetensors").write_text("garbage")
    with pytest.raises(UserError, match="is not the file that the figures are of"):
        report_command([row.parent])
    (row.parent / "report.md").write_text("my thesis")
    (row / "model" / "weights.safetensors").write_text("trained")
    with pytest.raises(UserError, match="report.md: is not replaced"):
        report_command([row.parent])
    assert (row.parent / "report.md").read_text() == "my thesis"


def test_rows_of_an_earlier_version_are_told_apart(row: Path) -> None:
    rows = [
        {"name": "old", "distance": 0.1},
        {"name": "a", "folder": "01-a", "files": files_of_row(row), "distance": 0.1},
    ]
    (row.parent / "results.json").write_text(json.dumps({"name": "run", "rows": rows}))
    console = Console(record=True, width=200)
    report_command([row.parent], console=console)
    assert "not checked, for want of a record of their files: old\n" in console.export_text()
