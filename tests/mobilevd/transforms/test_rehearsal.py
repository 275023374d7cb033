"""What cannot be is told before the first minute: all stages at their real sizes, without weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mobilevd.cli import app
from mobilevd.config import load_config
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms import rehearsal
from mobilevd.transforms.rehearsal import rehearse_stages
from tests.source import ROOT

SVD_FACTOR = 8


def svd(folder: Path, **changes: Any) -> Path:
    """The config of SVD's UNet at its full size; there are no weights, and none are made."""
    config = {"_class_name": "UNetSpatioTemporalConditionModel", "sample_size": 96, "num_frames": 14, **changes}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def recipe(*overrides: str) -> Any:
    return load_config(ROOT / "configs" / "mobilevd.yaml", list(overrides))


def test_the_papers_recipe_at_full_size_in_memory_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last: list[SpatioTemporalUNet] = []
    record = rehearsal.record_size

    def spy(unet: SpatioTemporalUNet, *size: int) -> None:
        record(unet, *size)
        last[:] = [unet]

    monkeypatch.setattr(rehearsal, "record_size", spy)
    rehearse_stages(recipe(), svd(tmp_path / "unet"), SVD_FACTOR)
    (unet,) = last
    assert all(parameter.is_meta for parameter in unet.parameters())
    config = recipe()
    assert len(unet.config["temporal_blocks"]) == 11  # the paper: 70 % of SVD's 38 temporal blocks go
    assert unet.config["temporal_scale"] == 2 and unet.num_frames == config.data.num_frames
    assert unet.config["inner_widths"] and not unet.config["live_funnels"]


def test_a_model_of_25_frames_takes_clips_of_14(tmp_path: Path) -> None:
    rehearse_stages(recipe("data.num_frames=14"), svd(tmp_path / "xt", num_frames=25), SVD_FACTOR)


@pytest.mark.parametrize(
    ("overrides", "changes", "text"),
    [
        (["data.num_frames=25"], {}, r"data.num_frames: 25 is not divisible by 2, the temporal scale from stages\.\S+"),
        (["data.num_frames=7"], {}, "nearest valid: 6 or 8"),
        ([], {"temporal_scale": 4}, "data.num_frames: 14 is not divisible by 4, the temporal scale of the base model"),
        (["data.width=1000"], {}, "data.width: 1000 is not divisible by 64; nearest valid: 960 or 1024"),
        ([], {"temporal_scale": 2}, r"stages\.\S+\.transforms\.\d: transform temporal_multiscale: .*already has|by 4"),
        ([], {"cross_attention": "none"}, "config.json: cross_attention is 'none'"),
    ],
)
def test_what_cannot_be_is_named_by_its_key(tmp_path: Path, overrides: list[str], changes: Any, text: str) -> None:
    with pytest.raises(UserError, match=text) as error:
        rehearse_stages(recipe(*overrides), svd(tmp_path / "unet", **changes), SVD_FACTOR)
    assert "\n" not in str(error.value)


def test_the_dry_run_checks_what_is_at_hand() -> None:
    tiny = str(ROOT / "configs" / "tiny.yaml")
    others = ("adversarial", "temporal-multiscaling", "temporal-pruning", "funnels")
    short = [f"stages.{name}.training.steps=0" for name in others]
    told = CliRunner().invoke(app, ["run", tiny, "--dry-run", *short, "hardware.gpu=a10", "training.batch_size=2"])
    assert told.exit_code == 0, told.output
    plan, _, estimated = told.output.partition("# every stage fits 8 frames at its size\n")[2].partition("# estimate: ")
    plan = plan.splitlines()
    assert len(estimated.splitlines()) == 11  # in all, nine rows, and the encoding
    assert len(plan) == 11 and max(map(len, plan)) <= 100
    assert re.fullmatch(r"# finetuning +2/2( +\d+\.\d){9}", plan[3])
    assert re.fullmatch(r"# finetuning +340( +[\d.]+){3}", plan[7])
    refused = CliRunner().invoke(app, ["run", tiny, "--dry-run", "data.num_frames=9"])
    assert refused.exit_code == 2 and "data.num_frames: 9 is not divisible by 2" in refused.output
    missing = CliRunner().invoke(app, ["run", str(ROOT / "configs" / "mobilevd.yaml"), "--dry-run"])
    assert missing.exit_code == 2 and re.search("base.model: .*: no such model folder", missing.stderr)
