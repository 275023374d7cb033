"""Fewer frames or pixels inside: where the halving is, what it costs nothing, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mobilevd.errors import UserError
from mobilevd.model.layers.multiscale import SpatialScale, TemporalScale
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet
from tests.mobilevd.transforms.specs import transform_of
from tests.mobilevd.unets import inputs, relative_error, run, small_unet

THREE_LEVELS: dict[str, Any] = {
    "block_out_channels": (32, 32, 64),
    "down_block_types": (CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN),
    "up_block_types": (PLAIN_UP, CROSS_UP, CROSS_UP),
    "num_attention_heads": (2, 2, 4),
}


def shapes_of_inputs(unet: SpatioTemporalUNet, size: tuple[int, int]) -> dict[str, list[tuple[int, int, int]]]:
    """Frames, height and width that every residual block and the last upsamplers see, by the stage's name."""
    seen: dict[str, list[tuple[int, int, int]]] = {}

    def watch(stage: str, module: torch.nn.Module) -> None:
        def hook(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            frames, _, height, width = arguments[0].shape
            seen.setdefault(stage, []).append((frames, height, width))

        module.register_forward_pre_hook(hook)

    for name, module in unet.named_modules():
        if ".resnets." in name and name.split(".")[-2] == "resnets":
            watch(name.split(".resnets")[0], module)
    watch("conv_out", unet.conv_out)
    run(unet, inputs(unet, batch=1, size=size))
    return {stage: sorted(set(shapes)) for stage, shapes in seen.items()}


@pytest.mark.parametrize("operator", ["average", "stride"])
def test_frames_are_halved_behind_the_first_stage_and_restored_before_the_last(operator: str) -> None:
    transform = transform_of({"kind": "temporal_multiscale", "factor": 2, "operator": operator})
    unet = transform.finish(transform.begin(small_unet(**THREE_LEVELS)))
    assert shapes_of_inputs(unet, (8, 16)) == {
        "down_blocks.0": [(4, 8, 16)],
        "down_blocks.1": [(2, 4, 8)],
        "down_blocks.2": [(2, 2, 4)],
        "mid_block": [(2, 2, 4)],
        "up_blocks.0": [(2, 2, 4)],
        "up_blocks.1": [(2, 4, 8)],
        "up_blocks.2": [(4, 8, 16)],  # its skips are level 0's, with all frames
        "conv_out": [(4, 8, 16)],
    }


def test_pixels_are_halved_behind_the_first_stage_and_restored_before_the_last() -> None:
    unet = transform_of({"kind": "spatial_multiscale"}).begin(small_unet(**THREE_LEVELS))
    assert shapes_of_inputs(unet, (16, 32)) == {
        "down_blocks.0": [(4, 16, 32)],
        "down_blocks.1": [(4, 4, 8)],
        "down_blocks.2": [(4, 2, 4)],
        "mid_block": [(4, 2, 4)],
        "up_blocks.0": [(4, 2, 4)],
        "up_blocks.1": [(4, 4, 8)],
        "up_blocks.2": [(4, 16, 32)],
        "conv_out": [(4, 16, 32)],
    }


def test_the_weights_stay() -> None:
    unet = small_unet()
    for kind in ("temporal_multiscale", "spatial_multiscale"):
        scaled = transform_of({"kind": kind}).begin(unet)
        state = scaled.state_dict()
        assert state.keys() == unet.state_dict().keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in unet.state_dict().items())


@pytest.mark.parametrize("operator", ["average", "stride"])
def test_a_still_clip_loses_nothing_but_its_frame_numbers(operator: str) -> None:
    """With all frames alike and no temporal parts, halving and repeating frames is the identity."""
    unet = small_unet(temporal_blocks=[])
    sample, timestep, embedding, ids = inputs(unet)
    still = sample[:, :1].expand_as(sample).contiguous()
    scaled = transform_of({"kind": "temporal_multiscale", "operator": operator}).begin(unet)
    arguments = (still, timestep, embedding, ids)
    assert relative_error(run(scaled, arguments), run(unet, arguments)) < 1e-6
    moving = (sample, timestep, embedding, ids)
    assert relative_error(run(scaled, moving), run(unet, moving)) > 0.01


def test_the_operators_do_what_they_are_called() -> None:
    frames = torch.arange(6.0)[:, None, None, None].expand(6, 2, 3, 4)
    average, stride = TemporalScale(3, "average"), TemporalScale(3, "stride")
    assert average.down(frames)[:, 0, 0, 0].tolist() == pytest.approx([1.0, 4.0])
    assert stride.down(frames)[:, 0, 0, 0].tolist() == [0.0, 3.0]
    assert average.up(torch.tensor([1.0, 4.0])[:, None, None, None]).flatten().tolist() == [1, 1, 1, 4, 4, 4]
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert SpatialScale(2, "average").down(image).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert SpatialScale(2, "stride").down(image).flatten().tolist() == [0.0, 2.0, 8.0, 10.0]


def test_what_does_not_fit_is_refused() -> None:
    temporal, spatial = {"kind": "temporal_multiscale"}, {"kind": "spatial_multiscale"}
    with pytest.raises(UserError, match="4 frames are not divisible by factor 3"):
        transform_of({**temporal, "factor": 3}).begin(small_unet())
    with pytest.raises(UserError, match="latents of 6x8 do not fit factor 2.*divisible by 4"):
        transform_of(spatial).begin(small_unet(sample_size=[6, 8]))
    twice = transform_of(temporal).begin(small_unet())
    with pytest.raises(UserError, match="already has temporal_scale 2"):
        transform_of(temporal).begin(twice)
    with pytest.raises(UserError, match="operator 'stride', but this UNet's temporal_scale uses 'average'"):
        transform_of({**spatial, "operator": "stride"}).begin(twice)
    both = transform_of(spatial).begin(twice)
    assert (both.config["temporal_scale"], both.config["spatial_scale"]) == (2, 2)
