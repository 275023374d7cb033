"""The model that is measured: about 70 million parameters, not compressed, as one step of generation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from export.generator.one_step import INPUTS, OneStepGenerator, OneStepSettings
from export.generator.unet_program import unet_program
from export.program.program import Program
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet

MEDIUM: dict[str, Any] = {
    "block_out_channels": (64, 128, 256, 256),
    "num_attention_heads": (1, 2, 4, 4),
    "cross_attention_dim": 1024,
    "num_frames": 14,
}
QUICK: dict[str, Any] = {
    **MEDIUM,
    "down_block_types": (CROSS_DOWN, PLAIN_DOWN),
    "up_block_types": (PLAIN_UP, CROSS_UP),
    "block_out_channels": (32, 64),
    "num_attention_heads": (1, 2),
    "layers_per_block": 1,
}
FRAMES, HEIGHT, WIDTH, SIGMA = 14, 32, 64, 700.0
SETTINGS = OneStepSettings(HEIGHT, WIDTH, FRAMES, SIGMA)
CALIBRATION = 2  # number of inputs; the ranges of activations do not affect latency


class OneStepDiffusers(nn.Module):
    """diffusers' UNet as the same one-step generator, so that all engines do the same work."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, like: OneStepGenerator) -> None:
        super().__init__()
        self.unet = unet
        self.factors = (like.noise_to_input, like.noise_to_output, like.network_to_output)
        self.register_buffer("timestep", torch.tensor([0.25 * torch.tensor(SIGMA).log()]))
        self.register_buffer("ids", SETTINGS.time_ids())

    def forward(self, noise: Tensor, image_latents: Tensor, image_embedding: Tensor) -> Tensor:
        to_input, to_output, network = self.factors
        sample = torch.cat([noise * to_input, image_latents.expand(FRAMES, -1, -1, -1)], dim=1)[None]
        out = self.unet(sample, self.timestep, image_embedding, self.ids, return_dict=False)[0][0]
        return noise * to_output + out * network


@dataclass(frozen=True)
class Work:
    """One evaluation of the same weights, in every form that an engine takes.

    Attributes:
        ours, theirs: eager generators.
        program: the folded generator, to be lowered.
        inputs: inputs by name, the same for all.
    """

    unet: SpatioTemporalUNet
    ours: OneStepGenerator
    theirs: OneStepDiffusers
    program: Program
    inputs: dict[str, Tensor]


def random_inputs() -> dict[str, Tensor]:
    shapes = ((FRAMES, 4, HEIGHT, WIDTH), (1, 4, HEIGHT, WIDTH), (1, 1, MEDIUM["cross_attention_dim"]))
    return {name: torch.randn(shape) for name, shape in zip(INPUTS, shapes, strict=True)}


def make_work(quick: bool, folder: Path) -> Work:
    """Work with random weights from a fixed seed; diffusers reads them from `folder`."""
    torch.manual_seed(0)
    unet = SpatioTemporalUNet(**(QUICK if quick else MEDIUM)).eval()
    unet.save_svd(folder / "unet")
    ours = OneStepGenerator(unet, SETTINGS)
    theirs = OneStepDiffusers(UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet").eval(), ours).eval()
    inputs = random_inputs()
    program = unet_program(unet, SETTINGS, inputs, [random_inputs() for _ in range(CALIBRATION)])
    return Work(unet, ours, theirs, program, inputs)
