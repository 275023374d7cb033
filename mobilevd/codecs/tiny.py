"""A codec of 0.24 M weights for runs without a download: diffusers' tiny autoencoder and a thumbnail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.nn import functional

from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from mobilevd.files import atomic_folder
from mobilevd.json_files import load_json
from mobilevd.places import is_json_with, only_with_config

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TINY_CODEC_FILES = only_with_config(is_json_with("codec"), CONFIG_NAME, WEIGHTS_NAME)
"""What is no tiny codec's, in a folder to write one to."""
THUMBNAIL = (4, 8)  # rows, columns: the 1:2 shape of the tiny configuration's pictures


class TinyCodec(Codec):
    """Small convolutional autoencoder (factor 4), with a thumbnail in place of CLIP's image embedding.

    The embedding is a stand-in and no more: the area average of the image on a grid of 4 x 8 cells, its 96 RGB values
    in [-1, 1]. It says what is roughly where, not what it means. With an SVD folder the real CLIP is used (`SVDCodec`).

    The width is one number because `AutoencoderTiny` keeps it through its strided convolutions. No residual block runs
    at full resolution: there each would cost as much as the rest of the decoder together.

    Args:
        width: channels of all hidden layers.
        encoder_blocks: residual blocks at full, half and quarter resolution.
        decoder_blocks: residual blocks at quarter, half and full resolution.
        scaling_factor, latent_shift: measured on data (training/tiny/codec.py); scaled = (unscaled - shift) * factor.
    """

    name = "tiny"

    def __init__(
        self,
        width: int = 32,
        latent_channels: int = 4,
        encoder_blocks: Sequence[int] = (0, 1, 2),
        decoder_blocks: Sequence[int] = (2, 2, 0),
        scaling_factor: float = 1.0,
        latent_shift: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    ):
        super().__init__()
        levels = len(encoder_blocks)
        if len(decoder_blocks) != levels:
            raise UserError(f"the tiny codec has {levels} encoder levels but {len(decoder_blocks)} decoder levels")
        if len(latent_shift) != latent_channels:
            raise UserError(f"the tiny codec has {latent_channels} latent channels but {len(latent_shift)} shifts")
        self.config = {
            "width": width,
            "latent_channels": latent_channels,
            "encoder_blocks": list(encoder_blocks),
            "decoder_blocks": list(decoder_blocks),
        }
        self.vae = AutoencoderTiny(
            encoder_block_out_channels=(width,) * levels,
            decoder_block_out_channels=(width,) * levels,
            num_encoder_blocks=tuple(encoder_blocks),
            num_decoder_blocks=tuple(decoder_blocks),
            latent_channels=latent_channels,
        )
        self.latent_channels = latent_channels
        self.spatial_factor = 2 ** (levels - 1)
        self.embedding_dim = 3 * THUMBNAIL[0] * THUMBNAIL[1]
        self.latent_shift: torch.Tensor
        self.register_buffer("latent_shift", torch.zeros(1, latent_channels, 1, 1), persistent=False)
        self.set_latent_statistics(scaling_factor, latent_shift)

    def set_latent_statistics(self, scaling_factor: float, latent_shift: Sequence[float]) -> None:
        """Fix the affine map from unscaled to scaled latents."""
        self.scaling_factor = float(scaling_factor)
        self.latent_shift.copy_(torch.tensor(latent_shift, dtype=torch.float32).view(1, -1, 1, 1))
        self.config |= {
            "scaling_factor": self.scaling_factor,
            "latent_shift": [float(v) for v in latent_shift],
        }

    def encode_condition(self, image: torch.Tensor) -> torch.Tensor:
        self.latent_size(image.shape[-2], image.shape[-1])
        return self.vae.encoder(image)  # (B, C, h, w)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return (self.encode_condition(frames) - self.latent_shift) * self.scaling_factor  # (N, C, h, w)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        folded = latents.flatten(0, 1) / self.scaling_factor + self.latent_shift  # (B*T, C, h, w)
        frames = self.vae.decoder(folded).clamp(-1, 1)  # (B*T, 3, H, W)
        return frames.unflatten(0, (latents.shape[0], latents.shape[1]))  # (B, T, 3, H, W)

    def embed_image(self, image: torch.Tensor) -> torch.Tensor:
        cells = functional.adaptive_avg_pool2d(image, THUMBNAIL)  # (B, 3, 4, 8)
        return cells.flatten(1).unsqueeze(1)  # (B, 1, 96)

    def save_pretrained(self, folder: Path | str) -> Path:
        """Write config.json and model.safetensors; the folder appears whole or not at all."""
        folder = Path(folder)
        with atomic_folder(folder, TINY_CODEC_FILES) as temporary:
            text = json.dumps({"codec": self.name, **self.config}, indent=2) + "\n"
            (temporary / CONFIG_NAME).write_text(text, encoding="utf-8")
            weights = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
            (temporary / WEIGHTS_NAME).write_bytes(save(weights))
        return folder

    @classmethod
    def without_weights(cls, folder: Path | str) -> TinyCodec:
        """The codec that the folder's config describes, on the meta device."""
        config = load_json(Path(folder) / CONFIG_NAME)
        config.pop("codec")
        with torch.device("meta"):
            return cls(**config).requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> TinyCodec:
        """Load what `save_pretrained` wrote, frozen and in evaluation mode. UserError names the file at fault."""
        folder = Path(folder)
        try:
            config = load_json(folder / CONFIG_NAME)
            config.pop("codec")
            codec = cls(**config)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / CONFIG_NAME}: not the configuration of a tiny codec: {error}") from error
        try:
            codec.load_state_dict(load_file(folder / WEIGHTS_NAME))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{folder / WEIGHTS_NAME}: not the weights of this tiny codec: {reason}") from error
        return codec.requires_grad_(False).eval()
