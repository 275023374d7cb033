"""Model folders: strict reading, whole writing, and every compressed form rebuilt from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file

from mobilevd.errors import UserError
from mobilevd.model.checkpoint import save_model_folder
from mobilevd.model.unet import SpatioTemporalUNet
from tests.mobilevd.model.test_unet_forms import FORMS
from tests.mobilevd.unets import inputs, relative_error, run, small_config, small_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def svd_folder(tmp_path: Path) -> Path:
    """A diffusers SVD UNet folder with random weights."""
    torch.manual_seed(3)
    UNetSpatioTemporalConditionModel(**small_config()).save_pretrained(tmp_path / "svd")
    return tmp_path / "svd"


def change_weights(folder: Path, change: Any) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def shard(folder: Path) -> dict[str, str]:
    """Split the weights into two files with an index, as large checkpoints come; returns the index's weight map."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    halves = {"part-1.safetensors": names[::2], "part-2.safetensors": names[1::2]}
    weight_map = {name: file for file, names in halves.items() for name in names}
    for file, names in halves.items():
        save_file({name: tensors[name] for name in names}, folder / file, metadata={"format": "pt"})
    (folder / WEIGHTS).unlink()
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_an_uncompressed_model_is_written_back_as_diffusers_wants_it(svd_folder: Path, tmp_path: Path) -> None:
    ours = SpatioTemporalUNet.from_svd(svd_folder)
    ours.save_svd(tmp_path / "back")
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "back").eval()
    arguments = inputs(ours)
    with torch.no_grad():
        assert relative_error(run(ours, arguments), theirs(*arguments).sample) < 1e-5
    before, after = load_file(svd_folder / WEIGHTS), load_file(tmp_path / "back" / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("temporal_scale", {"temporal_scale": 2}),
        ("cross_attention", {"cross_attention": "projection"}),
        ("temporal_blocks", {"temporal_blocks": []}),
        ("temporal_gates", {"temporal_gates": True}),
        ("inner_widths", {"inner_widths": {"mid_block.resnets.0.spatial_res_block.conv": 24}}),
    ],
)
def test_a_compressed_model_cannot_be_written_as_diffusers(key: str, changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"compressed model \\({key} = "):
        small_unet(**changes).save_svd(tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_rebuilt_from_its_folder_alone(form: str, tmp_path: Path) -> None:
    unet = small_unet(**FORMS[form])
    arguments = inputs(unet, size=(8, 8))
    unet.save_pretrained(tmp_path / "a")
    again = SpatioTemporalUNet.from_pretrained(tmp_path / "a")
    assert torch.equal(run(again, arguments), run(unet, arguments))
    assert again.state_dict().keys() == unet.state_dict().keys()
    save_model_folder(again, tmp_path / "b")
    assert torch.equal(run(SpatioTemporalUNet.from_pretrained(tmp_path / "b"), arguments), run(unet, arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_first_mismatching_tensor_is_named_with_both_shapes(svd_folder: Path) -> None:
    def widen(tensors: dict[str, torch.Tensor]) -> None:
        tensors["mid_block.resnets.0.spatial_res_block.conv1.weight"] = torch.zeros(64, 64, 5, 5)
        tensors["conv_out.bias"] = torch.zeros(3)  # a later one, not to be named

    change_weights(svd_folder, widen)
    with pytest.raises(UserError) as caught:
        SpatioTemporalUNet.from_svd(svd_folder)
    text = str(caught.value)
    assert "mid_block.resnets.0.spatial_res_block.conv1.weight" in text
    assert "(64, 64, 5, 5)" in text and "(64, 64, 3, 3)" in text and "conv_out" not in text
    assert str(svd_folder) in text and "\n" not in text


def test_a_config_of_another_size_is_a_checkpoint_of_another_architecture(svd_folder: Path) -> None:
    change_config(svd_folder, block_out_channels=[64, 64])
    with pytest.raises(UserError, match=r"conv_in.weight has shape \(32, 8, 3, 3\), its config says \(64, 8, 3, 3\)"):
        SpatioTemporalUNet.from_svd(svd_folder)


def test_missing_and_extra_tensors_are_named(svd_folder: Path) -> None:
    change_weights(svd_folder, lambda tensors: tensors.pop("conv_out.bias"))
    with pytest.raises(UserError, match=r"conv_out.bias of shape \(4,\) is missing"):
        SpatioTemporalUNet.from_svd(svd_folder)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["conv_out.bias"] = torch.zeros(4)
        tensors["lora.weight"] = torch.zeros(2, 3)

    change_weights(svd_folder, rename)
    with pytest.raises(UserError, match=r"lora.weight of shape \(2, 3\) has no place in this model"):
        SpatioTemporalUNet.from_svd(svd_folder)


def test_a_truncated_file_is_one_clear_error(svd_folder: Path) -> None:
    whole = (svd_folder / WEIGHTS).read_bytes()
    for length in (len(whole) // 2, 100, 4, 0):
        (svd_folder / WEIGHTS).write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a complete safetensors file|the file is empty"):
            SpatioTemporalUNet.from_svd(svd_folder)


def test_shards_are_read(svd_folder: Path) -> None:
    whole = SpatioTemporalUNet.from_svd(svd_folder)
    shard(svd_folder)
    assert torch.equal(run(SpatioTemporalUNet.from_svd(svd_folder)), run(whole))
    (svd_folder / "part-2.safetensors").unlink()
    with pytest.raises(UserError, match="the shard part-2.safetensors is missing"):
        SpatioTemporalUNet.from_svd(svd_folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/outside.safetensors", "sub/part.safetensors"])
def test_a_shard_outside_of_the_folder_is_refused(name: str, svd_folder: Path) -> None:
    weight_map = shard(svd_folder)
    (svd_folder.parent / "outside.safetensors").write_bytes((svd_folder / "part-1.safetensors").read_bytes())
    write_index(svd_folder, {key: name if file == "part-1.safetensors" else file for key, file in weight_map.items()})
    with pytest.raises(UserError, match="does not lie in the model folder"):
        SpatioTemporalUNet.from_svd(svd_folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "{}"])
def test_a_broken_index_is_one_clear_error(text: str, svd_folder: Path) -> None:
    shard(svd_folder)
    (svd_folder / f"{WEIGHTS}.index.json").write_text(text)
    with pytest.raises(UserError, match="index.json: not an index of shards"):
        SpatioTemporalUNet.from_svd(svd_folder)


def test_the_half_precision_variant_is_found_and_read_in_float32(svd_folder: Path, tmp_path: Path) -> None:
    whole = SpatioTemporalUNet.from_svd(svd_folder)
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(svd_folder, torch_dtype=torch.float16)
    theirs.save_pretrained(tmp_path / "half", variant="fp16")
    assert not (tmp_path / "half" / WEIGHTS).exists()
    ours = SpatioTemporalUNet.from_svd(tmp_path / "half")
    assert ours.conv_in.weight.dtype == torch.float32
    assert relative_error(run(ours), run(whole)) < 5e-3
    with pytest.raises(UserError, match="diffusion_pytorch_model.fp32.safetensors"):
        SpatioTemporalUNet.from_svd(tmp_path / "half", variant="fp32")


def test_the_dtype_can_be_chosen(svd_folder: Path) -> None:
    ours = SpatioTemporalUNet.from_svd(svd_folder, torch_dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.bfloat16}
    assert not ours.training


def test_folders_that_hold_no_such_model(svd_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        SpatioTemporalUNet.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no config.json"):
        SpatioTemporalUNet.from_pretrained(tmp_path / "empty")
    change_config(svd_folder, num_frame=14)
    with pytest.raises(UserError, match=r"config.json: .*num_frame"):
        SpatioTemporalUNet.from_svd(svd_folder)
    change_config(svd_folder, _class_name="UNet2DConditionModel")
    with pytest.raises(UserError, match="a model of class UNet2DConditionModel"):
        SpatioTemporalUNet.from_svd(svd_folder)
    for text in ("{", "[" * 100_000, '{"num_frames": ' + "9" * 5000 + "}"):
        (svd_folder / "config.json").write_text(text)
        with pytest.raises(UserError, match="not valid JSON"):
            SpatioTemporalUNet.from_svd(svd_folder)
    (svd_folder / "config.json").unlink()
    (svd_folder / "config.json").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        SpatioTemporalUNet.from_svd(svd_folder)


def test_a_folder_without_weights(svd_folder: Path) -> None:
    (svd_folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=f"no weights; {WEIGHTS}"):
        SpatioTemporalUNet.from_svd(svd_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": "wide"}, "block_out_channels is 'wide'; it must be a list of whole numbers"),
        ({"block_out_channels": ["a", "b"]}, r"block_out_channels is \['a', 'b'\]; it must be a list of whole numbers"),
        ({"block_out_channels": [32, -64]}, r"block_out_channels is \[32, -64\]; it must be a list of whole numbers"),
        ({"block_out_channels": [64, 64, 64]}, "num_attention_heads has 2 entries for 3 levels"),
        (
            {"num_attention_heads": 0},
            "num_attention_heads is 0; it must be a whole number from 1, or a list of one per",
        ),
        ({"layers_per_block": None}, "layers_per_block is None; it must be"),
        ({"transformer_layers_per_block": 10**30}, r"transformer_layers_per_block is 1000+; it must be"),
        ({"num_frames": 14.5}, "num_frames is 14.5; it must be a whole number from 1"),
        ({"num_frames": True}, "num_frames is True; it must be a whole number from 1"),
        ({"sample_size": [8]}, r"sample_size is \[8\]; it must be .* a list of height and width"),
        ({"temporal_scale": -1}, "temporal_scale is -1; it must be a whole number from 1"),
        ({"temporal_gates": "no"}, "temporal_gates is 'no'; it must be true or false"),
        ({"inner_widths": {"a": "wide"}}, "inner_widths is {'a': 'wide'}; it must be an object of a width per layer"),
        ({"temporal_blocks": "all"}, "temporal_blocks is 'all'; it must be a list of names of blocks"),
        ({"up_block_types": [1]}, r"up_block_types is \[1\]; it must be a list of names of block types"),
    ],
)
def test_a_broken_config_is_one_clear_line(changes: dict[str, Any], message: str, svd_folder: Path) -> None:
    change_config(svd_folder, **changes)
    with pytest.raises(UserError, match=f"config.json: .*({message})") as caught:
        SpatioTemporalUNet.from_svd(svd_folder)
    assert "\n" not in str(caught.value)
