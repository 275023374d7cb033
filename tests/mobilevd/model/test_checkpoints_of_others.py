"""Checkpoints as people have them: whole pipelines, averages, wrapped and pickled weights; and what only looks like one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mobilevd.commands.flops import count_model_folder
from mobilevd.errors import UserError
from mobilevd.model.model_place import model_folder
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.model.weight_files import read_tensors
from tests.mobilevd.unets import small_config

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def theirs() -> UNetSpatioTemporalConditionModel:
    torch.manual_seed(3)
    return UNetSpatioTemporalConditionModel(**small_config())


@pytest.fixture
def unet(theirs: Any, tmp_path: Path) -> Path:
    """A pipeline's folder, and in it `unet/`."""
    theirs.save_pretrained(tmp_path / "svd" / "unet")
    return tmp_path / "svd" / "unet"


def is_loaded(place: Path, theirs: nn.Module) -> bool:
    ours = dict(SpatioTemporalUNet.from_pretrained(place).state_dict())
    return all(
        torch.equal(tensor.reshape(ours[name].shape), ours[name]) for name, tensor in theirs.state_dict().items()
    )


def test_the_unet_of_a_whole_pipeline_is_taken(unet: Path, theirs: Any) -> None:
    (unet.parent / "vae").mkdir()
    (unet.parent / "vae" / "config.json").write_text("{}")
    (unet.parent / "model_index.json").write_text('{"_class_name": "StableVideoDiffusionPipeline"}')
    assert is_loaded(unet.parent, theirs)
    assert count_model_folder(unet.parent, 2, 64, 64)["parameters"] > 0


def test_an_average_that_diffusers_wrote(unet: Path, theirs: Any) -> None:
    """Its config has seven keys more than a model's."""
    average = EMAModel(theirs.parameters(), model_cls=type(theirs), model_config=theirs.config)
    average.save_pretrained(str(unet.parent / "unet_ema"))
    assert "optimization_step" in (unet.parent / "unet_ema" / "config.json").read_text()
    assert is_loaded(unet.parent / "unet_ema", theirs)
    with pytest.raises(UserError, match=r"svd: holds unet/, .* and unet_ema/, its average; give one of them"):
        model_folder(unet.parent)
    shutil.rmtree(unet)
    assert is_loaded(unet.parent, theirs)


@pytest.mark.parametrize("prefixes", ["module.", "_orig_mod.", "module._orig_mod.", "unet."])
def test_what_wrappers_put_before_names_is_taken_off(unet: Path, theirs: Any, prefixes: str) -> None:
    tensors = {f"{prefixes}{name}": tensor for name, tensor in load_file(unet / WEIGHTS).items()}
    save_file(tensors, unet / WEIGHTS)
    assert is_loaded(unet, theirs)


@pytest.mark.parametrize("kind", ["plain", "before_1.6", "wrapped", "fp16_variant", "shards", "accelerate", "half"])
def test_pickled_weights_are_loaded_safely(unet: Path, theirs: Any, kind: str) -> None:
    tensors = load_file(unet / WEIGHTS)
    (unet / WEIGHTS).unlink()
    file = unet / "diffusion_pytorch_model.bin"
    if kind == "shards":
        names = sorted(tensors)
        parts = {"a.bin": names[::2], "b.bin": names[1::2]}
        for part, members in parts.items():
            torch.save({name: tensors[name] for name in members}, unet / part)
        index = {"weight_map": {name: part for part, members in parts.items() for name in members}}
        (unet / "diffusion_pytorch_model.bin.index.json").write_text(json.dumps(index))
    elif kind == "before_1.6":
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    elif kind == "wrapped":
        torch.save({"step": 7, "state_dict": {f"module.{name}": each for name, each in tensors.items()}}, file)
    elif kind == "half":
        torch.save({name: tensor.half() for name, tensor in tensors.items()}, file)
        assert (
            not is_loaded(unet, theirs)
            and SpatioTemporalUNet.from_pretrained(unet).conv_in.weight.dtype == torch.float32
        )
        return
    else:
        name = "pytorch_model.bin" if kind == "accelerate" else "diffusion_pytorch_model.fp16.bin"
        torch.save(tensors, file if kind == "plain" else unet / name)
    assert is_loaded(unet, theirs)


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("code ran",)


def test_code_in_pickled_weights_does_not_run(unet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (unet / WEIGHTS).unlink()
    torch.save({"conv_in.weight": torch.zeros(1), "x": Harmful()}, unet / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"model.bin: holds more than tensors and numbers, and could run code"):
        SpatioTemporalUNet.from_pretrained(unet)
    assert "code ran" not in capsys.readouterr().out


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3049435868\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (LFS, "a pointer of Git LFS in place of the weights; run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page in place of the weights"),
        (b"", "the file is empty"),
        (b"PK\x03\x04nonsense" * 9, "not a complete"),
        (b"nonsense" * 99, "not a complete|could run code"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".safetensors.index.json"])
def test_what_only_has_the_name_of_weights(unet: Path, content: bytes, text: str, suffix: str) -> None:
    (unet / WEIGHTS).unlink()
    (unet / f"diffusion_pytorch_model{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=f"{text}|not an index of shards") as error:
        SpatioTemporalUNet.from_pretrained(unet)
    assert f"diffusion_pytorch_model{suffix}: " in str(error.value) and "\n" not in str(error.value)


def release(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.diffusion_model.{name}": tensor for name, tensor in tensors.items()}


def test_the_single_file_release_is_told_from_weights(unet: Path, tmp_path: Path) -> None:
    single = tmp_path / "svd.safetensors"
    save_file(release(load_file(unet / WEIGHTS)), single)
    with pytest.raises(UserError, match=r"svd.safetensors: weights in a single file, .* take the folders"):
        model_folder(single)
    with pytest.raises(UserError, match=r"svd.safetensors: the single-file release of Stable Video Diffusion"):
        read_tensors([single])
    for file in (unet / WEIGHTS, unet / "config.json"):
        with pytest.raises(UserError, match=f"a file of a model folder; give the folder, {unet}"):
            model_folder(file)


def test_places_without_a_model_say_what_is_missing(unet: Path, tmp_path: Path) -> None:
    accelerate = tmp_path / "checkpoint-1000"
    accelerate.mkdir()
    shutil.copy(unet / WEIGHTS, accelerate / "model.safetensors")
    (accelerate / "optimizer.bin").write_bytes(b"")
    with pytest.raises(UserError, match="a checkpoint of accelerate, .* without the model's config.json"):
        model_folder(accelerate)
    shutil.copy(unet / "config.json", accelerate / "config.json")
    assert model_folder(accelerate) == accelerate and SpatioTemporalUNet.from_pretrained(accelerate)
    (unet / "config.json").rename(unet / "config.old")
    with pytest.raises(UserError, match=f"no config.json beside {WEIGHTS}"):
        model_folder(unet)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"base": {}, "stages": [], "data": {}}')
    with pytest.raises(UserError, match="a run's folder; give one of its models, as in .*run/NN-stage/model"):
        model_folder(tmp_path / "run")
    stage = tmp_path / "run" / "03-last"
    shutil.copytree(accelerate, stage / "model")
    assert model_folder(stage) == stage / "model"
    with pytest.raises(UserError, match=f"a run's folder; give one of its models, such as the last, {stage / 'model'}"):
        model_folder(tmp_path / "run")
    (tmp_path / "text").write_text("a")
    with pytest.raises(UserError, match="text: a file; give the folder"):
        model_folder(tmp_path / "text")
    with pytest.raises(UserError, match="nowhere: no such model folder"):
        model_folder(tmp_path / "nowhere")
