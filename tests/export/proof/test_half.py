"""The proof in half precision: PyTorch's own half arithmetic, overflows that a runtime here would hide, and the remedy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from export.bundle import export_bundle
from export.generator.unet_program import unet_program
from export.mixed_precision.search import Goal
from export.model import ExportRequest, export_model
from export.program.parity import snr_db
from export.program.program import Program
from export.proof.half import HalfGraph, prove_in_half
from export.quantization.blocks import find_blocks
from export.targets import find_target, parse_target
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from tests.export.models import SETTINGS, plain_unet, unet

XNNPACK = find_target("executorch-xnnpack")


def scale(model: nn.Module, layer: str, gain: float) -> None:
    """Multiply all parameters of a layer."""
    with torch.no_grad():
        for parameter in model.get_submodule(layer).parameters():
            parameter.mul_(gain)


def with_residual(largest: float) -> SpatioTemporalUNet:
    """A UNet whose first residual reaches about `largest`; the norms behind it make its size irrelevant in float32."""
    model = plain_unet()
    with torch.no_grad():
        image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
        gain = largest / float(model.conv_in(image).abs().max())
        scale(model, "conv_in", gain)
    return model


class Elementwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.nn.functional.silu(self.first(x)) * 3 + 0.1)


def test_it_is_pytorchs_half_arithmetic() -> None:
    """The reference is PyTorch itself in torch.float16, whose products sum in float32 too."""
    module, x = Elementwise().eval(), torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact, expected = module(x), Elementwise().eval().half()(x.half()).float()
    program = Program("p", module, {"noise": {"x": x}}, {"noise": [exact]}, ("y",))
    (got,), magnitudes, overflow = HalfGraph(program, XNNPACK, "fp16").run([x])
    assert 50 < snr_db(got, exact) < 80 and overflow is None
    assert snr_db(got, expected) > snr_db(got, exact) + 3
    assert magnitudes["second"] == pytest.approx(float(exact.abs().max()), rel=0.01)


def test_a_program_without_half_precision_has_no_such_proof() -> None:
    program = unet_program(plain_unet(), SETTINGS)
    assert prove_in_half(program, XNNPACK, "fp32") is None and prove_in_half(program, XNNPACK, "8da8w") is None
    assert prove_in_half(program, find_target("onnx"), "int8") is None
    # the weights are compressed, the arithmetic is in half precision
    assert prove_in_half(program, find_target("coreml"), "palettized4") is not None


def test_the_manifest_tells_both_arithmetics(tmp_path: Path) -> None:
    manifest = export_bundle(plain_unet(), tmp_path / "b", SETTINGS, name="t", precision="fp16")
    parity = json.loads((tmp_path / "b" / "manifest.json").read_text())["programs"]["unet"]["parity"]
    assert "float16" in parity["arithmetic"] and parity["half"]["psnr_db"] >= 50
    assert [check["inputs"] for check in parity["half"]["checks"]] == ["noise"] and "overflow" not in parity["half"]
    largest = [entry["largest"] for entry in parity["half"]["largest"]]
    assert largest == sorted(largest, reverse=True) and len(largest) == 10 and largest[0] < 65504
    fp32 = export_bundle(plain_unet(), tmp_path / "f", SETTINGS, name="t")
    assert fp32.programs["unet"].parity.arithmetic == "float32" and fp32.programs["unet"].parity.half is None
    # a phone is measured against the worse of the two proofs
    least = manifest.programs["unet"].outputs[0].min_psnr_db
    assert least == pytest.approx(min(50, parity["half"]["psnr_db"] - 3))


@pytest.mark.parametrize("target", ["executorch-xnnpack", "onnx", "coreml", "executorch-vulkan"])
def test_an_overflow_is_refused_whether_the_target_runs_here_or_not(target: str, tmp_path: Path) -> None:
    model = with_residual(2e5)
    with pytest.raises(UserError, match="holds infinities or NaN.*conv_in computes a value beyond 65504") as caught:
        export_bundle(model, tmp_path / "b", SETTINGS, name="t", target=target, precision="fp16")
    assert not (tmp_path / "b").exists()
    assert ("--min-psnr" in str(caught.value)) == (target in ("executorch-xnnpack", "onnx"))


def test_squares_in_a_norm_overflow_where_the_residual_itself_does_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"computes a value beyond 65504.*--min-psnr 50"):
        export_bundle(with_residual(4e4), tmp_path / "b", SETTINGS, name="t", precision="fp16")


@pytest.mark.parametrize("target", ["executorch-xnnpack:fp16", "onnx:fp16"])
def test_min_psnr_keeps_such_layers_in_float32(target: str, tmp_path: Path) -> None:
    model = plain_unet()
    # beyond half precision between two layers of one block, and nowhere else
    scale(model, "mid_block.resnets.0.spatial_res_block.conv1", 1e6)
    model.save_pretrained(tmp_path / "m")
    request = ExportRequest(targets=[target], settings=SETTINGS, goal=Goal(min_psnr_db=50))
    (manifest,) = export_model(tmp_path / "m", tmp_path / "b", request, Console(quiet=True)).values()
    program = manifest.programs["unet"]
    assert program.layers and program.layers["mid_block.resnets.0"] == "fp32" and program.precision == "fp16"
    assert len(program.layers) <= 2
    assert program.parity.psnr_db is not None and program.parity.psnr_db >= 50
    assert program.parity.half is not None and program.parity.half.psnr_db >= 50


def test_a_skip_connection_beyond_half_precision_is_joined_in_float32() -> None:
    """Concatenations are in no block: with every block in float32 they must not round."""
    model = unet()
    scale(model, "conv_in", 2e5)
    program = unet_program(model, SETTINGS)
    layers = {name: "fp32" for block in find_blocks(program.module) for name in block.names}
    proof = prove_in_half(program, XNNPACK, "fp16", layers)
    assert proof is not None and proof.overflow is None and proof.psnr_db > 60


def test_the_micro_conditionings_phases_stay_in_float32() -> None:
    """cos(127) in half precision is off by a hundredth; as an input it must cost nothing."""
    settings = replace(SETTINGS, conditioning_inputs=True)
    program = unet_program(plain_unet(), settings)
    for name in ("executorch-xnnpack:fp16", "onnx:fp16", "coreml:fp16", "executorch-vulkan:fp16"):
        target, precision = parse_target(name)
        graph = HalfGraph(program, target, precision)
        phases = [
            node for node in graph.live if node.target in (torch.ops.aten.sin.default, torch.ops.aten.cos.default)
        ]
        assert len(phases) == 2 and graph.halves and not graph.halves & {*phases, *phases[0].all_input_nodes}, name
