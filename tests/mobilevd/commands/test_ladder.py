"""`mobilevd ladder` on a run: every precision with its size, parity and distance; wrong runs and targets are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from export.targets import TARGETS
from mobilevd.commands.ladder import measure_ladder
from mobilevd.commands.ladder_display import print_ladder, write_ladder_plot
from mobilevd.config.schema import ExportSettings
from mobilevd.errors import UserError
from mobilevd.pipeline.export_choices import export_choices

RESULT: dict[str, Any] = {
    "run": "tiny",
    "stage": "funnels",
    "rows": [
        {"name": "PyTorch, fp32", "distance": 40.0, "distance_name": "FD-motion", "motion_ratio": 1.0},
        {
            "name": "executorch-xnnpack int8", "size_mb": 2.5, "psnr_db": 50.1, "half_psnr_db": 47.3, "distance": 41.0,
            "distance_name": "FD-motion", "motion_ratio": 0.9, "host_ms": 11.0,
        },
    ],
}  # fmt: skip


def test_the_table_and_the_plot_show_every_row(tmp_path: Path) -> None:
    console = Console(record=True, width=100)
    print_ladder(RESULT, console)
    text = console.export_text()
    assert "PyTorch, fp32" in text and "50.1" in text and "47.3" in text and "11.0" in text and "FD-motion" in text
    write_ladder_plot(tmp_path / "ladder.png", RESULT)
    with Image.open(tmp_path / "ladder.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(10**6) or []) > 20


def test_wrong_runs_and_targets_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="config.json: not there; give the folder of a run"):
        measure_ladder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(UserError, match="not the configuration of a run"):
        measure_ladder(tmp_path)
    with pytest.raises(UserError, match="coreml cannot be on the ladder"):
        measure_ladder(tmp_path, targets=["coreml"])


def test_a_run_can_ask_for_every_precision_of_every_target() -> None:
    for target in TARGETS.values():
        for precision in target.precisions:
            (choice,) = export_choices(ExportSettings(target=target.name, precision=precision))
            assert (choice.target, choice.precision, choice.folder) == (target, precision, "bundle")
