"""`mobilevd export`: options, several targets at once, gates, and what stays when something fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from export.bundle import Item, describe_model, export_bundle, write_bundle
from export.generator.one_step import OneStepGenerator
from export.generator.unet_program import unet_program
from export.model import ExportRequest, export_model
from export.program.parity import psnr_db
from export.proof.worst_blocks import tapped_blocks, worst_blocks
from export.targets import TARGETS, find_target, parse_target
from export.targets.executorch_runtime import run_pte
from mobilevd.codecs import TinyCodec
from mobilevd.commands.export import export_command
from mobilevd.errors import UserError
from tests.export.models import SETTINGS, plain_unet


@pytest.fixture
def model(tmp_path: Path) -> Path:
    plain_unet().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_targets_are_told_by_name_and_precision() -> None:
    assert parse_target("onnx") == (TARGETS["onnx"], "fp32") and parse_target("coreml")[1] == "fp16"
    assert parse_target("executorch-xnnpack:8da4w", "int8")[1] == "8da4w"
    assert parse_target("executorch-xnnpack", "int8")[1] == "int8"
    with pytest.raises(UserError, match="unknown target 'tflite'; known are executorch-xnnpack, executorch-coreml, "):
        parse_target("tflite")
    with pytest.raises(UserError, match="target onnx has no precision '8da4w'; it has fp32, fp16, int8"):
        parse_target("onnx:8da4w")


def test_a_missing_sdk_does_not_keep_other_targets_from_coming_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    console = Console(record=True, width=120)
    request = ExportRequest(targets=["executorch-qnn", "executorch-xnnpack", "executorch-xnnpack:8da8w"])
    with pytest.raises(UserError, match=r"1 of 3 targets did not come out:\nexecutorch-qnn fp16: .*QNN_SDK_ROOT"):
        export_model(model, tmp_path / "out", request, console)
    written = sorted(folder.name for folder in (tmp_path / "out").iterdir())
    assert written == ["executorch-xnnpack-8da8w", "executorch-xnnpack-fp32"]
    manifest = json.loads((tmp_path / "out" / "executorch-xnnpack-fp32" / "manifest.json").read_text())
    before, after = manifest["graph"]["before"], manifest["graph"]["after"]
    assert after["operators"] < 0.9 * before["operators"] and after["flops"] < before["flops"]
    assert manifest["model"]["latent_width"] == 8 and manifest["model"]["flops"] > 0.5 * after["flops"]
    assert "100% of FLOPs" in console.export_text()


def test_below_the_gate_the_blocks_that_lose_most_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    model = plain_unet()
    item = Item(unet_program(model, SETTINGS), "8da4w", gate_db=70)
    description = describe_model(model, SETTINGS, None)
    xnnpack = find_target("executorch-xnnpack")
    with pytest.raises(
        UserError, match=r"below the 70 dB that 8da4w must reach.*Most is lost in: .*blocks\.\d.*--allow"
    ):
        write_bundle([item], xnnpack, tmp_path / "b", name="b", model=description)
    assert not list(tmp_path.iterdir())
    manifest = write_bundle([item], xnnpack, tmp_path / "b", name="b", model=description, allow_low_parity=True)
    entry = manifest.programs["unet"]
    psnr = entry.parity.psnr_db
    assert psnr is not None and psnr < 70 and entry.outputs[0].min_psnr_db == pytest.approx(psnr - 3)


def test_the_worst_block_is_the_one_that_was_rounded() -> None:
    program = unet_program(plain_unet(), SETTINGS)
    names = list(tapped_blocks(program.module))
    assert len(names) > 5
    worst = worst_blocks(program, find_target("executorch-xnnpack"), "fp32", {"mid_block.attentions.0": "8da4w"})
    assert worst[0].name == "mid_block.attentions.0" and worst[0].snr_db < 60
    assert len(worst) == len(names) and not any(m._forward_hooks for m in program.module.modules())


def test_conditioning_may_stay_an_input(tmp_path: Path) -> None:
    model = plain_unet()
    settings = replace(SETTINGS, conditioning_inputs=True)
    manifest = export_bundle(model, tmp_path / "b", settings, name="b")
    entry = manifest.programs["unet"]
    assert [each.name for each in entry.inputs][-1] == "added_time_ids" and entry.delegation.delegates == 1
    other = replace(settings, fps=14, motion_bucket_id=40)
    inputs = list(unet_program(model, other).cases["noise"].values())
    with torch.no_grad():
        expected = OneStepGenerator(model, replace(SETTINGS, fps=14, motion_bucket_id=40))(*inputs[:3])
    assert psnr_db(run_pte(tmp_path / "b" / "unet.pte", inputs)[0], expected) > 100
    assert psnr_db(run_pte(tmp_path / "b" / "unet.pte", [*inputs[:3], settings.time_ids()])[0], expected) < 80


def test_pictures_check_and_calibrate(model: Path, tmp_path: Path) -> None:
    codec = TinyCodec(width=8, encoder_blocks=(0, 0, 1), decoder_blocks=(1, 0, 0))
    plain_unet(cross_attention_dim=codec.embedding_dim).save_pretrained(model)
    codec.save_pretrained(tmp_path / "codec")
    for i in range(3):
        picture = torch.randint(0, 255, (32, 32, 3), generator=torch.Generator().manual_seed(i)).byte().numpy()
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i}.png")
    keywords: dict[str, Any] = {"targets": ["executorch-xnnpack:int8"], "allow_low_parity": True}
    with pytest.raises(UserError, match="give --codec FOLDER"):
        export_command(model, tmp_path / "b", images=tmp_path / "pictures", **keywords)
    with pytest.raises(UserError, match="holds no pictures or videos"):
        export_command(model, tmp_path / "b", images=tmp_path / "codec", codec_folder=tmp_path / "codec", **keywords)
    manifests = export_command(
        model, tmp_path / "b", images=tmp_path / "pictures", codec_folder=tmp_path / "codec", **keywords
    )
    assert manifests["b"].calibration_inputs == 2  # the third checks
    parity = manifests["b"].programs["unet"].parity
    assert parity.inputs == "latents" and {check.inputs for check in parity.checks} == {"noise", "latents"}
    assert manifests["b"].model.height == 8 * codec.spatial_factor
