"""The smallest UNet with one of everything, and compressed forms of it."""

from __future__ import annotations

from typing import Any

import torch

from export.generator.one_step import OneStepSettings
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet
from tests.mobilevd.transforms.specs import transform_of

FRAMES, HEIGHT, WIDTH = 4, 8, 8
SETTINGS = OneStepSettings(HEIGHT, WIDTH, FRAMES, spatial_factor=4)


def unet(**changes: Any) -> SpatioTemporalUNet:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "down_block_types": (CROSS_DOWN, PLAIN_DOWN),
        "up_block_types": (PLAIN_UP, CROSS_UP),
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "num_attention_heads": 2,
        "cross_attention_dim": 16,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
        "num_frames": FRAMES,
        "sample_size": [HEIGHT, WIDTH],
        **changes,
    }
    made = SpatioTemporalUNet(**arguments)
    for mixer in made.time_mixers().values():
        mixer.mix_factor.data.normal_()  # so that a blend that is folded wrongly shows
    return made.eval()


def plain_unet(**changes: Any) -> SpatioTemporalUNet:
    """One level, with attention in the middle alone: half the operators, for tests of what is done with any model.

    Not of 32 channels: the norms have 32 groups, and one of a single channel forgets what the conditioning adds to it.
    """
    levels = {"down_block_types": (PLAIN_DOWN,), "up_block_types": (PLAIN_UP,), "block_out_channels": (64,)}
    return unet(**{**levels, **changes})


def compressed(*specs: dict[str, Any]) -> SpatioTemporalUNet:
    model = unet()
    for spec in specs:
        transform = transform_of(spec)
        model = transform.finish(transform.begin(model))
    return model.eval()
