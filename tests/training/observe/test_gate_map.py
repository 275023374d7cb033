"""The map of the gates: probabilities and kept blocks as pruning has them, in text and as a picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevd.config.transforms import TemporalPruningSettings
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.temporal_pruning import TemporalPruning
from tests.mobilevd.unets import small_config
from training.observe.gate_map import describe_gates, final_gates, gates_of, importance_of, write_gate_map


@pytest.fixture(scope="module")
def unet() -> SpatioTemporalUNet:
    torch.manual_seed(0)
    unet = SpatioTemporalUNet(**small_config(), temporal_gates=True).eval()
    importance = unet.temporal_importance
    assert importance is not None
    torch.nn.init.normal_(importance)
    return unet


def test_gates_are_those_that_pruning_would_keep(unet: SpatioTemporalUNet) -> None:
    importance = importance_of(unet)
    assert importance is not None
    gates = gates_of(unet, importance, 3)
    assert sum(gate.probability for gate in gates) == pytest.approx(3)
    pruned = TemporalPruning(TemporalPruningSettings(keep=3)).finish(unet)
    assert [gate.block.name for gate in gates if gate.kept] == pruned.temporal_block_names()
    most = max(gates, key=lambda gate: gate.probability)
    assert most.kept


def test_the_final_gates_are_the_pruned_model(unet: SpatioTemporalUNet) -> None:
    importance = importance_of(unet)
    inputs = torch.randn(1, 4, 8, 16, 16), torch.zeros(1), torch.randn(1, 1, unet.context_dim), torch.zeros(1, 3)
    pruned = TemporalPruning(TemporalPruningSettings(keep=3)).finish(unet)
    with torch.no_grad():
        with final_gates(unet, importance, 3):
            gated = unet(*inputs)
        torch.testing.assert_close(gated, pruned(*inputs), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(unet(*inputs), gated, rtol=1e-4, atol=1e-5), "the gates are open again"
    with final_gates(unet, None, None):
        assert all(mixer.gate is None for mixer in unet.time_mixers().values())


def test_the_text_has_a_line_per_stage_with_levels(unet: SpatioTemporalUNet) -> None:
    importance = importance_of(unet)
    assert importance is not None
    head, *lines = describe_gates(gates_of(unet, importance, 3)).splitlines()
    assert "3 of 12" in head and sum(line.count("*") for line in lines) == 3
    assert [line.split()[0] for line in lines] == [
        "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1",
    ]  # fmt: skip
    assert [line.split()[2] for line in lines] == ["0", "1", "1", "1", "0"]


def test_the_picture_shows_what_is_kept(unet: SpatioTemporalUNet, tmp_path: Path) -> None:
    importance = importance_of(unet)
    assert importance is not None
    frames = []
    for keep in (1, 6):
        write_gate_map(tmp_path / f"{keep}.png", gates_of(unet, importance, keep), "pruning, step 500")
        with Image.open(tmp_path / f"{keep}.png") as picture:
            assert picture.width > 700
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        frames.append(int((np.abs(pixels - (0xD1, 0x56, 0x0A)).sum(-1) < 10).sum()))
    assert frames[0] > 100 and frames[1] == pytest.approx(6 * frames[0], rel=0.05)


def test_a_model_without_gates_has_no_map() -> None:
    assert importance_of(SpatioTemporalUNet(**small_config())) is None
