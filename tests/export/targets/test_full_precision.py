"""The micro-conditioning as an input: its phases are computed in float32 by every target, whatever the precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from export.generator.one_step import OneStepGenerator
from export.generator.unet_program import unet_program
from export.program.parity import psnr_db
from export.program.program import Program
from export.targets import find_target
from export.targets.coreml_package import main_operations, read_spec
from mobilevd.errors import UserError
from mobilevd.model.layers.embeddings import SinusoidalEmbedding
from tests.export.models import SETTINGS, plain_unet

CONDITIONED = replace(SETTINGS, conditioning_inputs=True)


@pytest.fixture(scope="module")
def program() -> Program:
    return unet_program(plain_unet(), CONDITIONED)


class Conditioning(nn.Module):
    """What the UNet does with the micro-conditioning, and a convolution: the parts that differ, in a small program."""

    def __init__(self) -> None:
        super().__init__()
        self.add_time_proj = SinusoidalEmbedding(8)
        self.add_embedding = nn.Linear(24, 8)
        self.conv = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, latents: Tensor, added_time_ids: Tensor) -> Tensor:
        phases = self.add_time_proj(added_time_ids.flatten()).reshape(1, -1)
        return self.conv(latents) + self.add_embedding(phases)[:, :, None, None]


@pytest.fixture(scope="module")
def conditioning() -> Program:
    torch.manual_seed(0)
    module = Conditioning().eval()
    inputs = {"latents": torch.randn(1, 4, 8, 8), "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]])}
    with torch.no_grad():
        return Program("unet", module, {"noise": inputs}, {"noise": [module(**inputs)]}, ("latents",))


@pytest.mark.parametrize("target", ["executorch-xnnpack", "onnx"])
def test_another_frame_rate_is_right_in_half_precision(target: str, program: Program, tmp_path: Path) -> None:
    """29.97 fps and bucket 200: as 16-bit inputs the phases would be off by 0.008 rad and more."""
    chosen = find_target(target)
    file = tmp_path / f"unet{chosen.suffix}"
    chosen.lower(program, "fp16", file)
    other = replace(SETTINGS, fps=29.97, motion_bucket_id=200.3)
    inputs = list(program.cases["noise"].values())[:3]
    with torch.no_grad():
        expected = OneStepGenerator(plain_unet(), other)(*inputs)
    assert psnr_db(chosen.run(file, [*inputs, other.time_ids()])[0], expected) > 65


def test_core_ml_computes_them_in_float32(program: Program, tmp_path: Path) -> None:
    find_target("coreml").lower(program, "fp16", tmp_path / "unet.mlpackage")
    types = {
        op.type: op.outputs[0].type.tensorType.dataType
        for op in main_operations(read_spec(tmp_path / "unet.mlpackage"))
    }
    assert types["cos"] == types["sin"] != types["conv"] == types["linear"]


@pytest.mark.parametrize("target", ["executorch-coreml", "executorch-vulkan"])
def test_a_half_precision_delegate_does_not_get_them(target: str, conditioning: Program, tmp_path: Path) -> None:
    delegation = find_target(target).lower(conditioning, "fp16", tmp_path / "unet.pte")
    outside = {each.op.split(".")[1]: each.count for each in delegation.operators_outside}
    assert delegation.delegates == 1 and outside["cos"] == outside["sin"] == 1 and sum(outside.values()) <= 6
    assert not find_target(target).lower(conditioning, "fp32", tmp_path / "full.pte").operators_outside


def test_qnn_cannot_and_says_so(program: Program, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave --conditioning-inputs away for it"):
        find_target("executorch-qnn").lower(program, "fp16", tmp_path / "unet.pte")
