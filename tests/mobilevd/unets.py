"""UNets small enough for a test, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet

CONTEXT = 16

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def small_config(**changes: Any) -> dict[str, Any]:
    """Two levels, with and without attention, one layer each; 4 frames."""
    return {
        "block_out_channels": (32, 64),
        "down_block_types": (CROSS_DOWN, PLAIN_DOWN),
        "up_block_types": (PLAIN_UP, CROSS_UP),
        "num_attention_heads": (2, 4),
        "cross_attention_dim": CONTEXT,
        "layers_per_block": 1,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
        "num_frames": 4,
    } | changes


def randomize_mixing(unet: torch.nn.Module) -> None:
    """Give every time mixer a blend of its own; they all start alike."""
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if name.endswith("mix_factor"):
                parameter.normal_()


def small_unet(seed: int = 0, **changes: Any) -> SpatioTemporalUNet:
    """A random model of `small_config`, in evaluation mode."""
    torch.manual_seed(seed)
    unet = SpatioTemporalUNet(**small_config(**changes))
    randomize_mixing(unet)
    return unet.eval()


def inputs(
    unet: torch.nn.Module, batch: int = 2, num_frames: int | None = None, size: tuple[int, int] = (4, 8), seed: int = 1
) -> Inputs:
    """Random sample, timestep, image embedding and added time ids for a UNet (ours or diffusers')."""
    config: Any = unet.config
    frames = num_frames or config["num_frames"]
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, frames, config["in_channels"], *size, generator=generator)
    timestep = torch.randn(batch, generator=generator)
    embedding = torch.randn(batch, 1, config["cross_attention_dim"], generator=generator)
    ids = torch.tensor([[6.0, 127.0, 0.02], [24.0, 40.0, 0.1]])[torch.arange(batch) % 2]
    return sample, timestep, embedding, ids


@torch.no_grad()
def run(unet: torch.nn.Module, arguments: Inputs | None = None) -> Tensor:
    """The model's output, on its usual inputs if none are given."""
    return unet(*(arguments or inputs(unet)))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected|."""
    return float((actual.double() - expected.double()).norm() / expected.double().norm())
