"""The whole path from a picture to frames: the programs that a bundle holds for it, and its entry in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from device_runner.bundle.whole_path import (
    DECODER,
    DECODER_REST,
    NOISE,
    WHOLE_PATH,
    AugmentedPictureEntry,
    DecoderEntry,
    DrawEntry,
    FramesEntry,
    LatentsEntry,
    PictureEntry,
    PipelineEntry,
    RandomEntry,
)
from export.codec.decoders import OWN
from export.codec.programs import codec_programs
from export.generator.one_step import OneStepSettings
from export.program.program import Program
from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet


def settings_for_codec(settings: OneStepSettings, unet: SpatioTemporalUNet, codec: Codec) -> OneStepSettings:
    """Return the settings with the codec's pixels per latent.

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
) -> tuple[list[Program], PipelineEntry]:
    """Return the programs beside the UNet's in a bundle, and the manifest's entry on how they are connected.

    Args:
        codec: the model's codec.
        settings: from `settings_for_codec`; those that the UNet's program is made with.
        picture, latents, decoder, frames_per_chunk, calibration: see `codec_programs`.

    Raises:
        UserError: see `codec_programs`.
    """
    programs = codec_programs(codec, settings, latents, picture, decoder, frames_per_chunk, calibration)
    return programs, pipeline_entry(codec, settings, programs, decoder)


def pipeline_entry(codec: Codec, settings: OneStepSettings, programs: Sequence[Program], decoder: str) -> PipelineEntry:
    """The manifest's `pipeline` entry: all that is needed to make a clip with a bundle."""
    factor = codec.spatial_factor
    height, width = settings.latent_height * factor, settings.latent_width * factor
    chunks = {program.name: program.example[0].shape[0] for program in programs}
    frames, size = settings.num_frames, (settings.latent_height, settings.latent_width)
    return PipelineEntry(
        order=WHOLE_PATH,
        codec=codec.name,
        picture=PictureEntry(
            height=height,
            width=width,
            channels="RGB",
            range=(-1.0, 1.0),
            fit="cropped to the aspect around the centre, then resized (Lanczos)",
        ),
        augmented_picture=AugmentedPictureEntry(
            noise_aug_strength=settings.noise_aug_strength, formula="picture + noise_aug_strength * picture_noise"
        ),
        random=RandomEntry(
            generator="torch.Generator().manual_seed(seed), torch.randn in float32 on the CPU, in this order",
            draws=(
                DrawEntry(name=NOISE, shape=(1, frames, codec.latent_channels, *size)),
                DrawEntry(name="picture_noise", shape=(1, 3, height, width)),
            ),
        ),
        added_time_ids=tuple(settings.time_ids()[0].tolist()),
        latents=LatentsEntry(scaled=True, scaling_factor=codec.scaling_factor, unscaled_in=DECODER),
        decoder=DecoderEntry(
            kind=decoder.partition(":")[0],
            frames_per_chunk=chunks[DECODER],
            frames_left_over=chunks.get(DECODER_REST, 0),
            program_for_frames_left_over=DECODER_REST if DECODER_REST in chunks else None,
        ),
        frames=FramesEntry(count=frames, height=height, width=width, range=(-1.0, 1.0), fps=settings.fps),
    )
