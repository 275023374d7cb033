"""The whole path from a picture to frames: which programs a bundle holds for it, and what its manifest says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from export.codec.decoders import OWN
from export.codec_programs import (
    AUGMENTED_PICTURE,
    DECODER,
    DECODER_REST,
    IMAGE_ENCODER,
    PICTURE,
    VAE_ENCODER,
    codec_programs,
)
from export.one_step import CONDITIONING_INPUT, OneStepSettings
from export.program import Program
from export.unet_program import NAME as UNET
from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from mobilevd.unet import SpatioTemporalUNet

PIPELINE = "pipeline"
"""The manifest's key."""


def settings_for_codec(settings: OneStepSettings, unet: SpatioTemporalUNet, codec: Codec) -> OneStepSettings:
    """The settings with the codec's pixels per latent.

    Raises:
        UserError: the UNet's latents or embedding are not the codec's.
    """
    for what, its, wanted in (
        ("latent channels", unet.latent_channels, codec.latent_channels),
        ("values in an image embedding", unet.context_dim, codec.embedding_dim),
    ):
        if its != wanted:
            raise UserError(
                f"the model takes {its} {what}, the codec {codec.name} gives {wanted}: not the model's codec"
            )
    return replace(settings, spatial_factor=codec.spatial_factor)


def whole_path(
    codec: Codec,
    settings: OneStepSettings,
    *,
    picture: Tensor | None = None,
    latents: Tensor | None = None,
    decoder: str = OWN,
    frames_per_chunk: int | None = None,
    calibration: Sequence[Tensor] = (),
) -> tuple[list[Program], dict[str, Any]]:
    """The programs that go beside the UNet's into a bundle, and the manifest's further entries.

    Args:
        codec: the model's.
        settings: of `settings_for_codec`; those that the UNet's program is made with.
        picture, latents, decoder, frames_per_chunk, calibration: see `codec_programs`.

    Raises:
        UserError: see `codec_programs`.
    """
    programs = codec_programs(codec, settings, latents, picture, decoder, frames_per_chunk, calibration)
    return programs, {PIPELINE: pipeline_entry(codec, settings, programs, decoder)}


def pipeline_entry(
    codec: Codec, settings: OneStepSettings, programs: Sequence[Program], decoder: str
) -> dict[str, Any]:
    """All that a program needs to know to make a clip with a bundle, beside the programs themselves.

    A program's inputs are outputs of those before it, or drawn: outputs and inputs of one name are the same tensor.
    """
    factor = codec.spatial_factor
    height, width = settings.latent_height * factor, settings.latent_width * factor
    chunks = {program.name: program.example[0].shape[0] for program in programs}
    frames, size = settings.num_frames, (settings.latent_height, settings.latent_width)
    return {
        "order": [IMAGE_ENCODER, VAE_ENCODER, UNET, DECODER],
        "codec": codec.name,
        PICTURE: {
            "height": height,
            "width": width,
            "channels": "RGB",
            "range": [-1.0, 1.0],
            "fit": "cropped to the aspect around the centre, then resized (Lanczos)",
        },
        AUGMENTED_PICTURE: {
            "noise_aug_strength": settings.noise_aug_strength,
            "is": "picture + noise_aug_strength * picture_noise",
        },
        "random": {
            "generator": "torch.Generator().manual_seed(seed), torch.randn in float32 on the CPU, in this order",
            "draws": [
                {"name": "noise", "shape": [1, frames, codec.latent_channels, *size]},
                {"name": "picture_noise", "shape": [1, 3, height, width]},
            ],
        },
        CONDITIONING_INPUT: settings.time_ids()[0].tolist(),
        "latents": {"scaled": True, "scaling_factor": codec.scaling_factor, "unscaled_in": DECODER},
        "decoder": {
            "kind": decoder.partition(":")[0],
            "frames_per_chunk": chunks[DECODER],
            "frames_left_over": chunks.get(DECODER_REST, 0),
            "program_for_frames_left_over": DECODER_REST if DECODER_REST in chunks else None,
        },
        "frames": {"count": frames, "height": height, "width": width, "range": [-1.0, 1.0], "fps": settings.fps},
    }
