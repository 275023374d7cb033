"""Our UNet computes what diffusers' class computes with the same weights, forwards and backwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet
from tests.mobilevd.unets import inputs, randomize_mixing, relative_error, small_config

# every kind of block, first layers that change the width and ones that do not
SMALL = small_config(layers_per_block=2, transformer_layers_per_block=(2, 1))
# SVD's own layout: four levels, the last without attention, 14 frames
MIDDLE = {
    "down_block_types": (CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN),
    "up_block_types": (PLAIN_UP, CROSS_UP, CROSS_UP, CROSS_UP),
    "block_out_channels": (32, 64, 128, 128),
    "num_attention_heads": (2, 4, 8, 8),
    "cross_attention_dim": 96,
    "layers_per_block": 2,
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,
    "num_frames": 14,
}


def pair(config: dict[str, Any], folder: Path) -> tuple[torch.nn.Module, SpatioTemporalUNet]:
    """diffusers' model with random weights, and ours loaded from its folder; in training mode."""
    torch.manual_seed(0)
    theirs = UNetSpatioTemporalConditionModel(**config)
    randomize_mixing(theirs)
    theirs.save_pretrained(folder)
    return theirs.train(), SpatioTemporalUNet.from_svd(folder).train()


@pytest.mark.parametrize(
    ("config", "size", "dtype", "tolerance", "floor"),
    [
        (SMALL, (8, 4), torch.float32, 1e-5, 1e-7),
        (MIDDLE, (8, 16), torch.float32, 1e-5, 1e-7),
        # nothing hides behind rounding here: only the sinusoidal features are single precision, in both
        (SMALL, (8, 4), torch.float64, 1e-6, 1e-13),
    ],
    ids=["small", "middle", "small-float64"],
)
def test_output_and_gradients_are_those_of_diffusers(
    config: dict[str, Any],
    size: tuple[int, int],
    dtype: torch.dtype,
    tolerance: float,
    floor: float,
    tmp_path: Path,
) -> None:
    """`floor`, in units of the largest gradient, is for gradients that are 0 but for rounding: queries, keys and norm of
    cross-attention to one token (its softmax is 1), biases in front of a norm with one channel per group.
    """
    theirs, ours = pair(config, tmp_path)
    theirs, ours = torch.nn.Module.to(theirs, dtype), torch.nn.Module.to(ours, dtype)
    sample, timestep, embedding, ids = inputs(theirs, size=size)
    sample, embedding = sample.to(dtype), embedding.to(dtype)
    expected = theirs(sample, timestep, embedding, ids).sample
    actual = ours(sample, timestep, embedding, ids)
    assert relative_error(actual.detach(), expected.detach()) <= tolerance

    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    (expected * direction).sum().backward()
    (actual * direction).sum().backward()
    wanted: dict[str, torch.Tensor] = {}
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None, name
        wanted[name] = parameter.grad.squeeze(-1) if parameter.grad.ndim == 5 else parameter.grad
    largest = max(float(gradient.norm()) for gradient in wanted.values())
    assert {name for name, _ in ours.named_parameters()} == set(wanted)
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        error, size_of_it = float((parameter.grad - wanted[name]).norm()), float(wanted[name].norm())
        assert error <= tolerance * size_of_it + floor * largest, (name, error, size_of_it, largest)


def test_batch_entries_do_not_mix(tmp_path: Path) -> None:
    """Each clip of a batch has its own noise level, image and micro-conditioning."""
    _, ours = pair(SMALL, tmp_path)
    ours.eval()
    arguments = inputs(ours)
    with torch.no_grad():
        both = ours(*arguments)
        for i in range(2):
            alone = ours(*(tensor[i : i + 1] for tensor in arguments))
            assert relative_error(alone[0], both[i]) <= 1e-5
