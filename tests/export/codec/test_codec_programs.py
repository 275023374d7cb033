"""The programs around the UNet against the codecs they come from, on XNNPACK, each as one delegate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from torch.export import export
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from export.codec.clip import ClipImageEncoder, antialiased_resize
from export.codec.programs import codec_programs
from export.generator.one_step import OneStepSettings
from export.program.program import Program
from export.proof.prove import prove
from export.targets import find_target
from mobilevd.codecs import Codec, load_codec
from mobilevd.errors import UserError
from mobilevd.model.layers.ops import set_phone_form
from mobilevd.pixels import read_picture
from tests.export.small_codecs import FACTOR, save_fast_decoder, save_picture, save_svd_codec, save_tiny_codec

FRAMES, HEIGHT, WIDTH = 5, 6, 10  # in latents; as pixels they divide neither the thumbnail's cells nor CLIP's size
SETTINGS = OneStepSettings(HEIGHT, WIDTH, FRAMES, spatial_factor=FACTOR)
SIZE = (FACTOR * HEIGHT, FACTOR * WIDTH)
NAMES = ["image_encoder", "vae_encoder", "decoder"]


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Codec]:
    root = tmp_path_factory.mktemp("codecs")
    folders = {"tiny": save_tiny_codec(root / "tiny"), "svd": save_svd_codec(root / "svd")}
    return {name: load_codec(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return read_picture(save_picture(tmp_path_factory.mktemp("picture") / "cat.png"), *SIZE)


def check_program(program: Program, folder: Path) -> None:
    """One XNNPACK delegate with nothing outside, at least 100 dB from the eager codec on every case."""
    target = find_target("executorch-xnnpack")
    file = folder / f"{program.name}.pte"
    delegation = target.lower(program, "fp32", file)
    assert (delegation.delegates, delegation.operators_outside) == (1, [])
    for kind, checks in prove(program, target, file).items():
        assert all(check.psnr_db >= 100 for check in checks), (program.name, kind, checks)


@pytest.mark.parametrize("name", ["tiny", "svd"])
def test_one_delegate_and_the_codecs_numbers(
    name: str, codecs: dict[str, Codec], picture: torch.Tensor, tmp_path: Path
) -> None:
    codec = codecs[name]
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    programs = codec_programs(codec, SETTINGS, picture=picture)
    assert [program.name for program in programs][:3] == NAMES
    for program in programs:
        assert set(program.cases) == {"noise", "picture"}
        check_program(program, tmp_path)
    with torch.no_grad():
        assert torch.equal(programs[0].references["picture"][0], codec.embed_image(picture))
    assert all(torch.equal(before[key], value) for key, value in codec.state_dict().items())


@pytest.mark.parametrize("phone_form", [False, True])
def test_no_tensor_has_a_rank_above_four(codecs: dict[str, Codec], phone_form: bool) -> None:
    for program in codec_programs(codecs["svd"], SETTINGS):
        set_phone_form(program.module, phone_form)
        values = [node.meta.get("val") for node in export(program.module, program.example, strict=False).graph.nodes]
        assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) <= 4


def test_frames_left_over_have_a_program_of_their_own(codecs: dict[str, Codec]) -> None:
    def chunks(name: str, **arguments: Any) -> dict[str, int]:
        programs = codec_programs(codecs[name], SETTINGS, **arguments)
        return {each.name: each.example[0].shape[0] for each in programs if "decoder" in each.name}

    assert chunks("svd") == {"decoder": 2, "decoder_rest": 1}
    assert chunks("svd", frames_per_chunk=3) == {"decoder": 3, "decoder_rest": 2}
    assert chunks("svd", frames_per_chunk=99) == {"decoder": 5}
    assert chunks("tiny") == {"decoder": 1}
    with pytest.raises(UserError, match="at least 1 is decoded"):
        chunks("tiny", frames_per_chunk=0)


def test_real_latents_and_pictures_are_what_programs_are_checked_and_calibrated_on(
    codecs: dict[str, Codec], picture: torch.Tensor
) -> None:
    latents = torch.randn(FRAMES, 4, HEIGHT, WIDTH)
    programs = codec_programs(codecs["tiny"], SETTINGS, latents, picture, calibration=[picture.flip(3)])
    decoder = programs[-1]
    assert torch.equal(decoder.cases["picture"]["latents"], latents[:1])
    assert torch.equal(programs[0].calibration[0]["picture"], picture.flip(3))
    with torch.no_grad():
        expected = codecs["tiny"].encode(picture.flip(3))
    torch.testing.assert_close(decoder.calibration[0]["latents"], expected)
    augmented = programs[1].cases["picture"]["augmented_picture"]
    assert float((augmented - picture).std()) == pytest.approx(SETTINGS.noise_aug_strength, rel=0.1)
    with pytest.raises(UserError, match=r"has shape \(1, 3, 20, 12\), the program's is \(1, 3, 12, 20\)"):
        codec_programs(codecs["tiny"], SETTINGS, picture=picture.transpose(2, 3))


@pytest.mark.parametrize("size", [(300, 500), (224, 96)])
def test_the_resize_as_two_matrices(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size) * 2 - 1
    expected = _resize_with_antialiasing(picture, (224, 224))
    torch.testing.assert_close(antialiased_resize(*size, 224)(picture), expected, rtol=1e-5, atol=1e-5)


def test_activations_of_clip() -> None:
    for name in ("quick_gelu", "relu6"):
        config = CLIPVisionConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, patch_size=16, image_size=32,
            projection_dim=4, hidden_act=name,
        )  # fmt: skip
        source = CLIPVisionModelWithProjection(config).eval()
        mean, std = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)
        if name == "relu6":
            with pytest.raises(UserError, match="its activation is 'relu6'; known are gelu, quick_gelu"):
                ClipImageEncoder(source, mean, std, 32, 32)
            continue
        picture = torch.rand(1, 3, 32, 32) * 2 - 1
        with torch.no_grad():
            expected = source(((picture + 1) / 2 - mean) / std).image_embeds
            got = ClipImageEncoder(source, mean, std, 32, 32)(picture)
        torch.testing.assert_close(got[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_a_fast_decoder(codecs: dict[str, Codec], picture: torch.Tensor, tmp_path: Path) -> None:
    folder = save_fast_decoder(tmp_path / "taesd")
    program = codec_programs(codecs["svd"], SETTINGS, picture=picture, decoder=f"tiny:{folder}")[-1]
    assert program.name == "decoder" and program.example[0].shape[0] == 1
    check_program(program, tmp_path)
    latents = program.cases["picture"]["latents"]
    model = cast(Any, AutoencoderTiny.from_pretrained(folder))
    with torch.no_grad():  # by the convention of diffusers' pipelines
        expected = model.decode(latents / 1.3 + 0.1).sample.clamp(-1, 1)
    torch.testing.assert_close(program.references["picture"][0], expected)


def test_decoders_that_do_not_fit_are_refused(codecs: dict[str, Codec], tmp_path: Path) -> None:
    wrong = save_fast_decoder(tmp_path / "wrong", levels=3)
    for decoder, message in (
        ("taesd", "unknown decoder 'taesd'; known are own .* and tiny:FOLDER"),
        (f"tiny:{tmp_path / 'nowhere'}", "nowhere: not an AutoencoderTiny of diffusers"),
        (f"tiny:{wrong}", "it has 4 pixels per latent, the codec svd has 2"),
    ):
        with pytest.raises(UserError, match=message):
            codec_programs(codecs["svd"], SETTINGS, decoder=decoder)
