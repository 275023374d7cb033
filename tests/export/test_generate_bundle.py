"""`generate --bundle` against `generate --model`: the same picture and seed give the same frames, up to rounding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import mobilevd.cli
from device_runner.bundle.manifest import Manifest
from device_runner.bundle.read import read_bundle, read_manifest
from device_runner.errors import RunnerError
from export.bundle import Item, describe_model, write_bundle
from export.codec.decoders import TEMPORAL_CHUNK
from export.codec.whole_path import settings_for_codec, whole_path
from export.generator.one_step import OneStepSettings
from export.generator.unet_program import unet_program
from export.run_bundle import generate_with_bundle
from export.targets import find_target
from export.targets.executorch_xnnpack import ExecutorchXnnpack
from mobilevd.codecs import load_codec
from mobilevd.commands.generate import generate_frames
from mobilevd.errors import UserError
from mobilevd.pixels import read_picture
from tests.export.models import plain_unet
from tests.export.small_codecs import CONTEXT, save_picture, save_svd_codec, save_tiny_codec
from tests.mobilevd.unets import small_unet
from training.data.video import read_clip

# in latents; the decoder's chunk does not divide the frames; as in the codecs' own tests, so that they are traced once
FRAMES, HEIGHT, WIDTH = 5, 6, 10


@dataclass(frozen=True)
class Made:
    """A bundle and what it was made from."""

    bundle: Path
    model: Path
    codec: Path
    picture: Path
    manifest: Manifest


def make(root: Path, save_codec: Callable[[Path], Path], context: int, **changes: Any) -> Made:
    codec_folder, picture = save_codec(root / "codec"), save_picture(root / "cat.png")
    unet = plain_unet(cross_attention_dim=context, num_frames=FRAMES, sample_size=[HEIGHT, WIDTH])
    unet.save_pretrained(root / "model")
    codec, target = load_codec(codec_folder), find_target("executorch-xnnpack")
    settings = settings_for_codec(OneStepSettings(HEIGHT, WIDTH, FRAMES, **changes), unet, codec)
    image = read_picture(picture, HEIGHT * codec.spatial_factor, WIDTH * codec.spatial_factor)
    with torch.no_grad():
        real = {"image_latents": codec.encode_condition(image), "image_embedding": codec.embed_image(image)}
    program = unet_program(unet, settings, real)
    programs, pipeline = whole_path(codec, settings, picture=image, latents=program.references["latents"][0])
    manifest = write_bundle(
        [Item(each, "fp32") for each in (program, *programs)],
        target,
        root / "bundle",
        name="test",
        model=describe_model(unet, settings, None),
        pipeline=pipeline,
    )
    return Made(root / "bundle", root / "model", codec_folder, picture, manifest)


@pytest.fixture(scope="module")
def svd(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """With the micro-conditioning as an input of the UNet's program."""
    return make(tmp_path_factory.mktemp("svd"), save_svd_codec, CONTEXT, conditioning_inputs=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("tiny"), save_tiny_codec, 96, noise_aug_strength=0.3, fps=5)


def by_pytorch(made: Made, seed: int, **changes: Any) -> np.ndarray:
    from mobilevd.model.unet import SpatioTemporalUNet

    unet = SpatioTemporalUNet.from_pretrained(made.model)
    return generate_frames(unet, made.codec, made.picture, seed=seed, steps=1, **changes)


def assert_same_frames(frames: np.ndarray, expected: np.ndarray) -> None:
    assert frames.dtype == np.uint8 and frames.shape == expected.shape
    assert expected.std() > 3, "a flat clip would agree with anything"
    difference = np.abs(frames.astype(int) - expected.astype(int))
    assert difference.max() <= 1 and 10 * np.log10(255**2 / max(np.mean(difference**2), 1e-9)) >= 65


def test_svd_agrees_where_chunks_leave_frames_over(svd: Made) -> None:
    assert svd.manifest.pipeline is not None and svd.manifest.pipeline.decoder.frames_left_over == 1
    frames = generate_with_bundle(read_bundle(svd.bundle), svd.picture, seed=3)
    assert_same_frames(frames, by_pytorch(svd, 3, frames_per_chunk=TEMPORAL_CHUNK))
    whole = by_pytorch(svd, 3)  # decoded at once: another result, since the decoder mixes frames
    assert np.abs(frames.astype(int) - whole.astype(int)).max() > 1


class App:
    """The five steps of docs/app.md in numpy, Pillow and ExecuTorch's runtime, by what manifest.json says alone."""

    def __init__(self, bundle: Path) -> None:
        self.bundle, self.manifest = bundle, json.loads((bundle / "manifest.json").read_text())
        self.random = np.random.default_rng(0)

    def normal(self, *shape: int) -> np.ndarray:
        """Box and Muller's numbers."""
        u, v = 1 - self.random.random((2, *shape)), self.random.random((2, *shape))
        return (np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * v[0])).astype(np.float32)

    def run(self, name: str, **known: np.ndarray) -> dict[str, np.ndarray]:
        from executorch.runtime import Runtime

        entry = self.manifest["programs"][name]
        method = Runtime.get().load_program(self.bundle / entry["file"]).load_method(entry["method"])
        inputs = [torch.from_numpy(np.ascontiguousarray(known[each["name"]])) for each in entry["inputs"]]
        assert method is not None and [list(each.shape) for each in inputs] == [e["shape"] for e in entry["inputs"]]
        outputs = method.execute(inputs)
        return {each["name"]: out.numpy() for each, out in zip(entry["outputs"], outputs, strict=True)}

    def animate(self, file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The clip (T, H, W, 3), and the numbers that were drawn."""
        model, pipeline = self.manifest["model"], self.manifest["pipeline"]
        picture = Image.open(file).convert("RGB")
        width = min(picture.width, picture.height * model["width"] / model["height"])
        height = width * model["height"] / model["width"]
        left, top = (picture.width - width) / 2, (picture.height - height) / 2
        box, size = (left, top, left + width, top + height), (model["width"], model["height"])
        small = np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=box), np.float32) / 127.5 - 1
        known = {"picture": small.transpose(2, 0, 1)[None]}
        drawn = {"augmentation": self.normal(*known["picture"].shape)}
        strength = pipeline["augmented_picture"]["noise_aug_strength"]
        known["augmented_picture"] = known["picture"] + np.float32(strength) * drawn["augmentation"]
        known["added_time_ids"] = np.array([pipeline["added_time_ids"]], np.float32)
        known |= self.run("image_encoder", **known) | self.run("vae_encoder", **known)
        shape = next(each["shape"] for each in self.manifest["programs"]["unet"]["inputs"] if each["name"] == "noise")
        known["noise"] = drawn["noise"] = self.normal(*shape)
        latents = self.run("unet", **known)["latents"]
        chunk = self.manifest["programs"]["decoder"]["inputs"][0]["shape"][0]
        frames = []
        for start in range(0, len(latents), chunk):
            part = latents[start : start + chunk]
            frames.append(self.run("decoder" if len(part) == chunk else "decoder_rest", latents=part)["frames"])
        pixels = np.clip((np.concatenate(frames) + 1) * 127.5, 0, 255).round().astype(np.uint8)
        return pixels.transpose(0, 2, 3, 1), drawn


def test_an_app_makes_the_same_clip_by_the_steps_of_the_documents(svd: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, drawn = App(svd.bundle).animate(svd.picture)
    assert abs(drawn["noise"].mean()) < 0.1 and abs(drawn["noise"].std() - 1) < 0.1
    # the same numbers in the place of those that PyTorch would draw
    noise, augmentation = torch.from_numpy(drawn["noise"])[None], torch.from_numpy(drawn["augmentation"])
    monkeypatch.setattr("export.run_bundle.starting_noise", lambda *_: (noise, torch.Generator()))
    monkeypatch.setattr("export.run_bundle.torch.randn", lambda *_, **__: augmentation)
    assert_same_frames(frames, generate_with_bundle(read_bundle(svd.bundle), svd.picture, seed=0))


def test_the_command_agrees_for_the_tiny_codec(tiny: Made, tmp_path: Path) -> None:
    frames = generate_with_bundle(read_bundle(tiny.bundle), tiny.picture, seed=1)
    assert_same_frames(frames, by_pytorch(tiny, 1, noise_aug_strength=0.3, fps=5))
    assert not np.array_equal(frames, generate_with_bundle(read_bundle(tiny.bundle), tiny.picture, seed=2))

    out = tmp_path / "cat.mp4"
    result = invoke("--bundle", tiny.bundle, "--image", tiny.picture, "--out", out, "--seed", 1)
    assert result.exit_code == 0, result.output
    height, width = frames.shape[1:3]
    assert f"{out}: 5 frames of {height}x{width}, with executorch-xnnpack, fp32" in result.output
    assert np.abs(read_clip(out, FRAMES, 5, 0.0, height, width).astype(int) - frames).mean() < 8  # lossy video


def test_every_program_is_one_delegate_at_100_db(svd: Made, tiny: Made) -> None:
    for made in (svd, tiny):
        programs, pipeline = made.manifest.programs, made.manifest.pipeline
        assert pipeline is not None and set(programs) >= {"unet", *pipeline.order}
        for name, program in programs.items():
            assert (program.delegation.delegates, program.delegation.operators_outside) == (1, ()), name
            assert program.parity.checks and all(check.psnr_db >= 100 for check in program.parity.checks), name


def test_the_manifest_says_how_a_clip_is_made(tiny: Made) -> None:
    entry = tiny.manifest.to_json()["pipeline"]
    assert entry["picture"]["height"] == 2 * HEIGHT and entry["picture"]["range"] == [-1, 1]
    assert entry["augmented_picture"]["noise_aug_strength"] == 0.3
    assert entry["added_time_ids"] == pytest.approx([4, 127, 0.3])
    assert [draw["name"] for draw in entry["random"]["draws"]] == ["noise", "picture_noise"]
    assert entry["frames"] == {"count": 5, "height": 12, "width": 20, "range": [-1, 1], "fps": 5}
    assert read_manifest(tiny.bundle) == tiny.manifest


def invoke(*arguments: object):
    return CliRunner().invoke(mobilevd.cli.app, ["generate", *map(str, arguments)])


def test_the_command_takes_a_model_or_a_bundle(tiny: Made, tmp_path: Path) -> None:
    common = ("--image", tiny.picture, "--out", tmp_path / "cat.mp4")
    for arguments, message in (
        (common, "give either --model FOLDER or --bundle FOLDER"),
        (("--model", tiny.model, "--bundle", tiny.bundle, *common), "not both"),
        (("--bundle", tiny.bundle, "--codec", tiny.codec, *common), "--codec goes with --model"),
        (("--bundle", tiny.bundle, "--image", tmp_path / "no.png", "--out", tmp_path / "x.mp4"), "no such picture"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1
    by_model = ("--model", tiny.model, "--codec", tiny.codec, "--steps", 1, "--frames-per-chunk", 2)
    result = invoke(*by_model, *common)
    assert result.exit_code == 0 and "5 frames of 12x20, 1 step(s)" in result.output


def edited(made: Made, folder: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the bundle with another manifest."""
    shutil.copytree(made.bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_bundles_that_cannot_be_used(tiny: Made, svd: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path, message: str) -> None:
        with pytest.raises((UserError, RunnerError), match=message):
            generate_with_bundle(read_bundle(folder), tiny.picture, seed=0)

    damaged = edited(tiny, tmp_path / "damaged", lambda manifest: None)
    content = bytearray((damaged / "decoder.pte").read_bytes())
    content[-100] ^= 1
    (damaged / "decoder.pte").write_bytes(content)
    refused(damaged, "decoder.pte: its SHA-256 is")
    no_decoder = edited(tiny, tmp_path / "a", lambda manifest: manifest["programs"].pop("decoder"))
    refused(no_decoder, "has no decoder.*it has unet, image_encoder, vae_encoder.*--codec FOLDER")
    refused(edited(tiny, tmp_path / "b", lambda manifest: manifest.pop("pipeline")), "pipeline does not say")
    refused(edited(tiny, tmp_path / "c", lambda m: m["pipeline"].pop("added_time_ids")), "pipeline does not say")
    refused(edited(tiny, tmp_path / "d", lambda m: m.update(target="tpu")), "unknown target 'tpu'")
    refused(
        edited(tiny, tmp_path / "f", lambda m: m["pipeline"]["augmented_picture"].update(noise_aug_strength="0.3")),
        "pipeline.augmented_picture.noise_aug_strength must be a number, not '0.3'",
    )
    without_rate = edited(tiny, tmp_path / "g", lambda m: m["model"].pop("fps"))
    result = invoke("--bundle", without_rate, "--image", tiny.picture, "--out", tmp_path / "cat.mp4")
    assert result.exit_code == 2 and "manifest.json: model.fps is missing" in result.stderr
    refused(
        edited(svd, tmp_path / "e", lambda m: m["programs"].pop("decoder_rest")),
        "'decoder_rest' is not a program of the bundle",
    )
    monkeypatch.setattr(ExecutorchXnnpack, "not_executed", "it needs a phone")
    refused(tiny.bundle, "a bundle for executorch-xnnpack cannot run here: it needs a phone")


def test_a_codec_that_is_not_the_models_is_refused(tiny: Made) -> None:
    codec = load_codec(tiny.codec)
    settings = OneStepSettings(HEIGHT, WIDTH, FRAMES)
    assert settings_for_codec(settings, small_unet(cross_attention_dim=96), codec) == replace(
        settings, spatial_factor=2
    )
    with pytest.raises(UserError, match="takes 16 values in an image embedding, the codec tiny gives 96"):
        settings_for_codec(settings, small_unet(cross_attention_dim=16), codec)


def test_the_seed_draws_in_the_order_of_generation() -> None:
    from mobilevd.pixels import starting_noise

    noise, generator = starting_noise(7, 3, 4, 2, 2)
    reference = torch.Generator().manual_seed(7)
    assert torch.equal(noise, torch.randn(1, 3, 4, 2, 2, generator=reference))
    assert torch.equal(torch.randn(3, generator=generator), torch.randn(3, generator=reference))
