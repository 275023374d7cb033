"""Weights and outputs that are no numbers are found before anything is lowered, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.bundle import export_bundle
from export.codec.programs import codec_programs
from export.targets import TARGETS
from mobilevd.codecs import TinyCodec
from mobilevd.errors import UserError
from tests.export.models import SETTINGS, plain_unet


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "executorch-qnn"])
def test_a_weight_that_is_no_number_is_named(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TARGETS[target]), "lower", lambda *_: pytest.fail("something was lowered"))
    model = plain_unet()
    with torch.no_grad():
        model.get_parameter("down_blocks.0.resnets.0.spatial_res_block.conv1.weight")[0, 0, 0, 0] = torch.nan
    wanted = r"the weight down_blocks\.0\.resnets\.0\.spatial_res_block\.conv1\.weight holds 1 values of \d+"
    with pytest.raises(UserError, match=wanted):
        export_bundle(model, tmp_path / "b", SETTINGS, name="t", target=target)
    assert not (tmp_path / "b").exists()


def test_an_output_that_overflows_float32_names_its_module(tmp_path: Path) -> None:
    model = plain_unet()
    with torch.no_grad():
        model.get_parameter("mid_block.attentions.0.proj_in.weight").fill_(3e38)
    with pytest.raises(UserError, match=r"first module with such an output is mid_block\.attentions\.0\.proj_in"):
        export_bundle(model, tmp_path / "b", SETTINGS, name="t")


def test_a_reference_that_is_no_number_is_the_inputs_fault(tmp_path: Path) -> None:
    inputs = {"image_latents": torch.full((1, 4, 8, 8), torch.inf), "image_embedding": torch.zeros(1, 1, 16)}
    with pytest.raises(UserError, match=r"the input image_latents \(latents\) holds values that are no finite numbers"):
        export_bundle(plain_unet(), tmp_path / "b", SETTINGS, name="t", inputs=inputs)


def test_a_codecs_weights_are_looked_at_too() -> None:
    codec = TinyCodec()
    with torch.no_grad():
        next(codec.vae.decoder.parameters()).view(-1)[0] = torch.inf
    with pytest.raises(UserError, match="holds 1 values"):
        codec_programs(codec, SETTINGS)
