"""The decoder that turns latents into frames: the codec's own, or a fast one (an `AutoencoderTiny`, such as TAESD)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor, nn

from export.codec.tiny import TinyDecoder
from mobilevd.codecs.base import Codec
from mobilevd.codecs.foreign_config import check_no_code
from mobilevd.codecs.tiny import TinyCodec
from mobilevd.errors import UserError

OWN = "own"
TINY = "tiny:"
TEMPORAL_CHUNK = 2
"""Frames that SVD's temporal decoder takes at once: at 512x256 it holds several tensors of 134 MB for each frame."""
FRAME_CHUNK = 1  # for a decoder that works frame by frame: nothing is gained by more, and no frames are left over


@dataclass(frozen=True)
class Decoder:
    """A decoder to be exported.

    Attributes:
        module: the map of scaled latents (N, C, h, w) to frames (N, 3, H, W) in [-1, 1].
        eager: the same map by the library's model in float32.
        frames_per_chunk: frames decoded at once, unless the user says otherwise.
    """

    module: nn.Module
    eager: Callable[[Tensor], Tensor]
    frames_per_chunk: int


def choose_decoder(codec: Codec, name: str = OWN) -> Decoder:
    """The decoder called `name` for the latents of `codec`.

    Raises:
        UserError: a name that is neither "own" nor "tiny:FOLDER", a folder that is no `AutoencoderTiny`, or one that does
            not fit the codec's latents.
    """
    if name.startswith(TINY):
        return _fast_decoder(codec, name)
    if name != OWN:
        raise UserError(
            f"unknown decoder {name!r}; known are {OWN} (the codec's own) and {TINY}FOLDER (an AutoencoderTiny)"
        )
    if isinstance(codec, TinyCodec):
        module = TinyDecoder(codec.vae.decoder, codec.scaling_factor, codec.latent_shift)
        return Decoder(module, lambda latents: codec.decode(latents[None])[0], FRAME_CHUNK)
    if codec.name == "svd":
        from export.codec.vae import TemporalDecoder

        vae = cast(Any, codec).vae

        def decode(latents: Tensor) -> Tensor:  # as one chunk, whatever the codec is set to
            return vae.decode(latents / codec.scaling_factor, len(latents)).sample.clamp(-1, 1)

        return Decoder(TemporalDecoder(vae, codec.scaling_factor), decode, TEMPORAL_CHUNK)
    raise UserError(f"the decoder of codec {codec.name} cannot be exported; those of svd and tiny can")


def _fast_decoder(codec: Codec, name: str) -> Decoder:
    vae = load_tiny_autoencoder(Path(name.removeprefix(TINY)))
    config: Any = vae.config
    factor = config.upsampling_scaling_factor ** (len(config.num_decoder_blocks) - 1)
    for what, its, wanted in (
        ("latent channels", config.latent_channels, codec.latent_channels),
        ("pixels per latent", factor, codec.spatial_factor),
        ("colours", config.out_channels, 3),
    ):
        if its != wanted:
            raise UserError(f"decoder {name}: it has {its} {what}, the codec {codec.name} has {wanted}")
    scaling_factor = float(config.scaling_factor)
    shift = torch.full((1, codec.latent_channels, 1, 1), float(config.shift_factor))

    def decode(latents: Tensor) -> Tensor:
        return cast(Any, vae.decode(latents / scaling_factor + shift)).sample.clamp(-1, 1)

    return Decoder(TinyDecoder(vae.decoder, scaling_factor, shift), decode, FRAME_CHUNK)


def load_tiny_autoencoder(folder: Path) -> AutoencoderTiny:
    """Load diffusers' folder of an `AutoencoderTiny`, in float32, frozen; UserError for anything else."""
    check_no_code(Path(folder) / "config.json")
    try:
        model, info = cast(Any, AutoencoderTiny).from_pretrained(
            folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: not an AutoencoderTiny of diffusers in safetensors: {reason}") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise UserError(f"{folder}: {len(missing)} tensors of AutoencoderTiny are missing, first {missing[0]}")
    return model.requires_grad_(False).eval()
