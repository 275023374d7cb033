"""Codecs of the real classes, small and random, as folders and loaded; and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from mobilevd.codecs import TinyCodec
from tests.mobilevd.unets import randomize_mixing

FACTOR = 2  # pixels per latent
CONTEXT = 24  # of the SVD codec's embedding


def randomize_norms(model: torch.nn.Module) -> None:
    """Norms and biases start as ones and zeros; any others show whether they are used."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))


def save_svd_codec(folder: Path) -> Path:
    """An SVD folder with two levels, attention in both middle blocks, and a CLIP of two layers."""
    torch.manual_seed(0)
    vae = cast(Any, AutoencoderKLTemporalDecoder)(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=2
    )
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            patch_size=32,
            projection_dim=CONTEXT,
            hidden_act="gelu",  # as SVD's CLIP has it
        )
    )
    for model in (vae, clip):
        randomize_norms(model)
    randomize_mixing(vae)
    vae.save_pretrained(folder / "vae")
    clip.save_pretrained(folder / "image_encoder")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    return folder


def save_tiny_codec(folder: Path) -> Path:
    torch.manual_seed(0)
    codec = TinyCodec(
        8, encoder_blocks=(0, 1), decoder_blocks=(1, 0), scaling_factor=0.7, latent_shift=(0.1, -0.2, 0.3, 0)
    )
    codec.save_pretrained(folder)
    return folder


def save_fast_decoder(folder: Path, levels: int = 2) -> Path:
    """An `AutoencoderTiny` as a diffusers folder, with a scaling of its own."""
    torch.manual_seed(1)
    model = cast(Any, AutoencoderTiny)(
        encoder_block_out_channels=(8,) * levels,
        decoder_block_out_channels=(8,) * levels,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(1,) * levels,
        scaling_factor=1.3,
        shift_factor=0.1,
    )
    model.save_pretrained(folder)
    return folder


def save_picture(file: Path, height: int = 40, width: int = 60) -> Path:
    """A smooth picture, of another size and aspect than any program's."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    pixels = np.stack([x, y, np.cos(9 * x * y) ** 2], axis=-1) * 255
    Image.fromarray(pixels.round().astype(np.uint8)).save(file)
    return file
