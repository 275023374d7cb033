"""Counting on the meta device: against PyTorch's counter, diffusers' model, closed forms and the published table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from mobilevd.commands.flops import flops_command, flops_table, most_expensive_temporal_blocks, paper_rows
from mobilevd.errors import UserError
from mobilevd.model.flops import count_flops
from mobilevd.model.unet import SpatioTemporalUNet
from tests.mobilevd.model.test_unet_forms import FORMS
from tests.mobilevd.unets import small_config, small_unet

SIZE = (4, 8, 16)  # frames, height, width of the latents


def reference_count(unet: torch.nn.Module, batch: int = 1) -> int:
    """PyTorch's own counter around one plain evaluation on the meta device."""
    config: Any = unet.config
    frames, height, width = SIZE
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet(
            torch.empty(batch, frames, 8, height, width),
            torch.empty(batch),
            torch.empty(batch, 1, config["cross_attention_dim"]),
            torch.empty(batch, 3),
        )
    return counter.get_total_flops()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 2])
def test_counts_what_pytorchs_counter_counts(form: str, batch: int) -> None:
    config = small_config(layers_per_block=2, **FORMS[form])
    with torch.device("meta"):
        unet = SpatioTemporalUNet(**config)
    count = count_flops(config, *SIZE, batch=batch)
    assert count.flops == reference_count(unet, batch) == sum(count.by_kind.values())
    assert count.parameters == sum(weight.numel() for weight in unet.parameters())
    assert count_flops(unet, *SIZE, batch=batch) == count
    assert set(count.by_kind) == {"convolution", "linear", "attention"}


def test_an_uncompressed_unet_costs_what_diffusers_costs() -> None:
    with torch.device("meta"):
        theirs = torch.nn.Module.to(UNetSpatioTemporalConditionModel(**small_config()), "meta")
    # theirs projects time embedding and frame numbers once more per frame, ours per clip
    ratio = count_flops(small_unet(), *SIZE).flops / reference_count(theirs)
    assert 0.995 < ratio <= 1


def test_the_attention_products_are_counted() -> None:
    """2 x 2 x S^2 x C per attention over S tokens: spatial ones per frame, temporal ones per pixel, and one-token ones."""
    config = small_config(cross_attention="projection")
    frames, height, width = SIZE
    outer, inner = height * width, height * width // 4
    transformers = [(outer, 32)] + [(inner, 64)] + [(outer, 32)] * 2  # down, mid, up
    expected = sum(4 * c * (frames * s * s + s * frames * frames) for s, c in transformers)
    assert count_flops(config, *SIZE).by_kind["attention"] == expected
    one_token = sum(4 * c * (frames * s + s * frames) for s, c in transformers)
    assert count_flops(small_config(), *SIZE).by_kind["attention"] == expected + one_token


def test_projecting_at_every_frame_and_position() -> None:
    config = small_config(cross_attention="projection")
    frames, height, width = SIZE
    outer, inner = height * width, height * width // 4
    transformers = [(outer, 32)] + [(inner, 64)] + [(outer, 32)] * 2
    once = sum(2 * 2 * 16 * c for _, c in transformers)  # spatial and temporal, context of width 16
    everywhere = sum(2 * (frames + s) * (16 * c + c * c) for s, c in transformers)
    plain, full = count_flops(config, *SIZE), count_flops(config, *SIZE, project_everywhere=True)
    assert full.flops - plain.flops == everywhere - once
    assert count_flops(small_config(), *SIZE, project_everywhere=True) == count_flops(small_config(), *SIZE)


def test_merging_funnels_saves_and_scales_save() -> None:
    live = count_flops(small_config(**FORMS["funnels"]), *SIZE)
    merged = count_flops(small_config(**{**FORMS["funnels"], "live_funnels": False}), *SIZE)
    assert merged.flops < live.flops and merged.parameters < live.parameters
    plain = count_flops(small_config(), *SIZE).flops
    assert count_flops(small_config(temporal_scale=2), *SIZE).flops < plain
    assert count_flops(small_config(spatial_scale=2), *SIZE).flops < plain


def test_a_size_that_does_not_fit_is_a_user_error() -> None:
    with pytest.raises(UserError, match="latents of 5x16"):
        count_flops(small_config(), 4, 5, 16)


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in flops_table()}


def test_svds_own_figures(table: dict[str, dict[str, Any]]) -> None:
    """Counted elsewhere for diffusers' class: 1,524,623,082 parameters, 44.80 and 8.46 TFLOPs."""
    assert table["SVD 512x256"]["parameters"] == 1_524_623_082
    assert table["SVD 1024x576"]["tflops"] == pytest.approx(44.80, abs=0.005)
    assert table["SVD 512x256"]["tflops"] == pytest.approx(8.46, abs=0.005)


PUBLISHED = {
    "SVD 1024x576": (45.43, 2),
    "SVD 512x256": (8.60, 2),
    "+ low-resolution finetuning": (8.60, 2),
    "+ optimized cross-attention": (8.24, 2),
    "+ adversarial finetuning": (8.24, 2),
    "+ temporal multiscaling": (5.42, 2),
    "+ temporal block pruning (70 %)": (4.64, 2),
    "+ channel funnels = MobileVD": (4.34, 2),
    "no multiscaling": (8.24, 4),
    "temporal multiscaling": (5.42, 4),
    "spatial multiscaling": (4.35, 4),
    "temporal and spatial multiscaling": (3.39, 4),
    "temporal pruning 70 %": (4.64, 4),
    "temporal pruning 80 %": (4.35, 4),
    "temporal pruning 90 %": (4.06, 4),
    "no funnels": (8.6, 4),
    "attention funnels 0.5": (8.0, 4),
    "convolution funnels 0.5": (7.2, 4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rows_agree_with_the_published_ones(name: str, table: dict[str, dict[str, Any]]) -> None:
    published, percent = PUBLISHED[name]
    assert table[name]["published_tflops"] == published
    assert abs(table[name]["tflops"] / published - 1) <= percent / 100, table[name]
    assert table[name]["deviation_percent"] == pytest.approx(100 * (table[name]["tflops"] / published - 1))


def test_the_hd_row_stays_off_and_says_so(table: dict[str, dict[str, Any]]) -> None:
    row = table["MobileVD-HD 1024x576"]
    assert row["published_tflops"] == 23.63
    assert row["tflops"] == pytest.approx(22.2, abs=0.15)
    assert set(table) == {*PUBLISHED, row["name"]}


def test_the_paper_rows_keep_the_published_numbers_of_blocks() -> None:
    kept = {row.name: row.config.get("temporal_blocks") for row in paper_rows()}
    counts = [len(kept[f"temporal pruning {percent} %"] or []) for percent in (70, 80, 90)]
    assert counts == [11, 8, 4]
    survivors = kept["temporal pruning 70 %"] or []
    assert all(".attentions." in name for name in survivors)
    assert sum(name.startswith(("down_blocks.0", "up_blocks.3")) for name in survivors) == 5
    assert sum(name.startswith(("down_blocks.1", "up_blocks.2")) for name in survivors) == 5


def test_survivors_are_the_most_expensive_blocks() -> None:
    """No other choice of as many blocks costs more: what the published FLOPs force."""
    with torch.device("meta"):
        unet = SpatioTemporalUNet(**small_config(layers_per_block=2))
    names = unet.temporal_block_names()
    base = small_config(layers_per_block=2, temporal_blocks=[])
    nothing = count_flops(base, *SIZE).flops
    cost = {name: count_flops({**base, "temporal_blocks": [name]}, *SIZE).flops - nothing for name in names}
    survivors = most_expensive_temporal_blocks(unet, 3)
    assert sum(cost[name] for name in survivors) >= 0.99 * sum(sorted(cost.values())[-3:])


def console(folder: Path) -> Console:
    return Console(file=(folder / "out.txt").open("w"), width=200)


def test_a_model_folder_is_counted_at_its_own_size(tmp_path: Path) -> None:
    unet = small_unet(sample_size=[8, 16], temporal_scale=2)
    unet.save_pretrained(tmp_path / "stage" / "model")
    for folder in (tmp_path / "stage" / "model", tmp_path / "stage"):
        out = console(tmp_path)
        flops_command(folder, tmp_path / "flops.json", out)
        out.file.close()
        (row,) = json.loads((tmp_path / "flops.json").read_text())
        assert row["tflops"] == count_flops(unet, *SIZE).tflops
        assert row["parameters"] == unet.num_parameters()
        assert row["published_tflops"] is None
        assert row["name"] in (tmp_path / "out.txt").read_text()
    # only the config is read: a model of any size can be counted
    (tmp_path / "stage" / "model" / "diffusion_pytorch_model.safetensors").unlink()
    flops_command(tmp_path / "stage", tmp_path / "flops.json", console(tmp_path), num_frames=2, height=16, width=8)
    (row,) = json.loads((tmp_path / "flops.json").read_text())
    assert row["tflops"] == count_flops(unet, 2, 16, 8).tflops


def test_a_diffusers_folder_is_counted(tmp_path: Path) -> None:
    UNetSpatioTemporalConditionModel(**small_config(sample_size=8)).save_pretrained(tmp_path)
    flops_command(tmp_path, tmp_path / "flops.json", console(tmp_path))
    (row,) = json.loads((tmp_path / "flops.json").read_text())
    assert row["tflops"] == count_flops(small_config(), 4, 8, 8).tflops


def test_what_cannot_be_counted_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        flops_command(tmp_path / "nowhere", None, console(tmp_path))
    small_unet().save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="sample_size records no size"):
        flops_command(tmp_path / "model", None, console(tmp_path))
    with pytest.raises(UserError, match="latents of 3x8"):
        flops_command(tmp_path / "model", None, console(tmp_path), height=3, width=8)
    with pytest.raises(UserError, match="the published table has its own sizes"):
        flops_command(None, None, console(tmp_path), height=3, width=8)


def test_the_table_is_printed_with_its_convention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "section": section,
            "name": f"row {i}",
            "parameters": 2_500_000 * i,
            "tflops": 8.457,
            "published_tflops": 8.6,
            "deviation_percent": -1.66,
        }
        for i, section in enumerate(["first", "first", "second"])
    ]
    monkeypatch.setattr("mobilevd.commands.flops.flops_table", lambda: rows)
    out = console(tmp_path)
    flops_command(None, tmp_path / "flops.json", out)
    out.file.close()
    text = (tmp_path / "out.txt").read_text()
    for expected in (
        "row 2",
        "second",
        "5.0",
        "8.46",
        "8.60",
        "-1.7 %",
        "multiply-accumulate is 2 operations",
        "23.63",
    ):
        assert expected in text
    assert [row["name"] for row in json.loads((tmp_path / "flops.json").read_text())] == ["row 0", "row 1", "row 2"]
