"""Small runs to plan: a base of which there is a config alone, and the tiny codec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobilevd.config.schema import RunConfig
from tests.mobilevd.unets import small_config
from tests.source import ROOT

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Makes a run of stages that denoise and then train adversarially, with changes of the training."""

    def made(hardware: dict[str, Any] | None = None, **training: Any) -> RunConfig:
        (tmp_path / "config.json").write_text(json.dumps(small_config(cross_attention_dim=96)))
        return RunConfig.model_validate(
            {
                "name": "small",
                "base": {"model": tmp_path, "codec": ROOT / "assets" / "tiny" / "codec"},
                "data": {"num_frames": 4, "height": 64, "width": 64},
                "training": {"steps": 2, "batch_size": 4, **training},
                "stages": [
                    {"name": "low", "objective": {"kind": "denoise"}},
                    {"name": "fast", "objective": {"kind": "adversarial"}},
                ],
                "hardware": hardware or {},
            }
        )

    return made
