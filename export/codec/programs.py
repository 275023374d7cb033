"""The programs around the UNet: from a picture to its embedding and its latents, and from latents to frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from device_runner.bundle.whole_path import (
    AUGMENTED_PICTURE,
    DECODER,
    DECODER_REST,
    FRAMES,
    IMAGE_EMBEDDING,
    IMAGE_ENCODER,
    IMAGE_LATENTS,
    LATENTS,
    PICTURE,
    VAE_ENCODER,
)
from export.codec.decoders import OWN, Decoder, choose_decoder
from export.codec.tiny import Thumbnail, TinyEncoder
from export.generator.one_step import OneStepSettings
from export.program.finite import check_references, check_weights
from export.program.program import Program
from mobilevd.codecs.base import Codec
from mobilevd.codecs.tiny import TinyCodec
from mobilevd.errors import UserError

NOISE, REAL = "noise", "picture"  # kinds of cases
NOISE_SEED = 0  # seed of the noise inputs that parity is checked on, besides the real ones
CALIBRATION_SEED = 1  # seed of the noise inputs that ranges are taken from
CALIBRATION_INPUTS = 4

Draw = Callable[[torch.Generator], Tensor]


def codec_programs(
    codec: Codec,
    settings: OneStepSettings,
    latents: Tensor | None = None,
    picture: Tensor | None = None,
    decoder: str = OWN,
    frames_per_chunk: int | None = None,
    calibration: Sequence[Tensor] = (),
) -> list[Program]:
    """Return the programs `image_encoder`, `vae_encoder` and `decoder` of a codec, for one size of pictures.

    If the chunk does not divide the number of frames, `decoder_rest` takes the frames that are left over: the temporal
    decoder takes its norms over all frames of a chunk, so a padded chunk would give other frames.

    Args:
        settings: size in latents and number of frames; pixels follow from the codec's own factor.
        latents: real scaled latents (T, C, h, w) to check the decoder on; None repeats the picture's for every frame.
        picture: a real picture (1, 3, H, W) in [-1, 1], checked as a case of its own besides noise.
        decoder: "own", or "tiny:FOLDER" for a folder of diffusers' `AutoencoderTiny`.
        frames_per_chunk: frames decoded together; None takes a number that suits the decoder and a phone.
        calibration: further pictures, to take quantized ranges from; if empty, noise alone is used.

    Raises:
        UserError: a codec or decoder that cannot be exported, a picture or chunk of the wrong size.
    """
    height, width = settings.latent_height * codec.spatial_factor, settings.latent_width * codec.spatial_factor
    for each in [*([] if picture is None else [picture]), *calibration]:
        if tuple(each.shape) != (1, 3, height, width):
            raise UserError(
                f"export: a picture has shape {tuple(each.shape)}, the program's is {(1, 3, height, width)}"
            )
    programs = _encoder_programs(codec, height, width, settings.noise_aug_strength, picture, calibration)
    chosen = choose_decoder(codec, decoder)
    chunk = chunk_size(chosen, settings.num_frames, frames_per_chunk)
    with torch.no_grad():
        encoded = [codec.encode(each) for each in calibration]
        if latents is None and picture is not None:
            latents = codec.encode(picture).expand(settings.num_frames, -1, -1, -1)
    for name, count in ((DECODER, chunk), (DECODER_REST, settings.num_frames % chunk)):
        if count:
            shape = (count, codec.latent_channels, settings.latent_height, settings.latent_width)
            real = None if latents is None else latents[:count]
            more = [each.expand(shape).contiguous() for each in encoded]
            programs.append(_program(name, chosen.module, chosen.eager, (LATENTS, FRAMES), _normal(shape), real, more))
    return programs


def _encoder_programs(
    codec: Codec, height: int, width: int, strength: float, picture: Tensor | None, calibration: Sequence[Tensor]
) -> list[Program]:
    """The image encoder and the VAE encoder; the latter's real picture is augmented with noise, as in use."""
    image_encoder, vae_encoder = _encoders(codec, height, width)
    shape = (1, 3, height, width)
    augmented = None if picture is None else picture + strength * _normal(shape)(_seeded(NOISE_SEED))
    names, augmented_names = (PICTURE, IMAGE_EMBEDDING), (AUGMENTED_PICTURE, IMAGE_LATENTS)
    return [
        _program(IMAGE_ENCODER, image_encoder, codec.embed_image, names, _uniform(shape), picture, calibration),
        _program(
            VAE_ENCODER, vae_encoder, codec.encode_condition, augmented_names, _uniform(shape), augmented, calibration
        ),
    ]


def chunk_size(decoder: Decoder, num_frames: int, asked: int | None) -> int:
    """Frames decoded at a time: what was asked for, else the decoder's own number, and at most the clip's."""
    if asked is not None and asked < 1:
        raise UserError(f"frames per chunk of the decoder: {asked}; at least 1 is decoded at a time")
    return min(asked or decoder.frames_per_chunk, num_frames)


def _encoders(codec: Codec, height: int, width: int) -> tuple[nn.Module, nn.Module]:
    """Image encoder and VAE encoder for pictures of one size."""
    if isinstance(codec, TinyCodec):
        return Thumbnail(height, width), TinyEncoder(codec.vae.encoder)
    if codec.name == "svd":
        from export.codec.clip import ClipImageEncoder  # only where CLIP is used: transformers takes a second to import
        from export.codec.vae import VaeEncoder

        svd = cast(Any, codec)
        return ClipImageEncoder(svd.image_encoder, svd.clip_mean, svd.clip_std, height, width), VaeEncoder(svd.vae)
    raise UserError(f"the codec {codec.name} cannot be exported; svd and tiny can")


def _program(
    name: str,
    module: nn.Module,
    eager: Callable[[Tensor], Tensor],
    names: tuple[str, str],
    draw: Draw,
    real: Tensor | None,
    calibration: Sequence[Tensor],
) -> Program:
    """A program of one input and one output (`names`), with the eager codec's results for its cases.

    Raises UserError for weights or results that are not finite.
    """
    input_name, output_name = names
    inputs = {NOISE: draw(_seeded(NOISE_SEED)), **({} if real is None else {REAL: real.detach().float().contiguous()})}
    cases: Mapping[str, Mapping[str, Tensor]] = {kind: {input_name: tensor} for kind, tensor in inputs.items()}
    with torch.no_grad():
        references = {kind: [eager(tensor).contiguous()] for kind, tensor in inputs.items()}
    check_weights(name, module)
    check_references(name, module, cases, references)
    given = list(calibration) or [draw(_seeded(CALIBRATION_SEED + i)) for i in range(CALIBRATION_INPUTS)]
    return Program(
        name,
        module.eval().requires_grad_(False),
        cases,
        references,
        (output_name,),
        [{input_name: tensor} for tensor in given],
    )


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _uniform(shape: Sequence[int]) -> Draw:
    """A function that draws noise pictures in [-1, 1]."""
    return lambda generator: torch.rand(tuple(shape), generator=generator) * 2 - 1


def _normal(shape: Sequence[int]) -> Draw:
    """A function that draws noise of unit variance, like scaled latents."""
    return lambda generator: torch.randn(tuple(shape), generator=generator)
