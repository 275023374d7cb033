"""The codec of Stable Video Diffusion: its VAE with temporal decoder, and CLIP, from a diffusers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    _resize_with_antialiasing,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from mobilevd.codecs.base import Codec
from mobilevd.codecs.foreign_config import check_no_code
from mobilevd.errors import UserError
from mobilevd.json_files import load_json
from mobilevd.model.weight_files import what_instead


class SVDCodec(Codec):
    """SVD's maps with the arithmetic of diffusers' `StableVideoDiffusionPipeline`, for batches of tensors.

    Encoding takes the posterior's mode. `decode_chunk_size` is the number of frames of one clip decoded
    together: fewer take less memory, but the temporal decoder sees only the frames of its chunk; None takes
    the whole clip.
    """

    name = "svd"

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        feature_extractor: CLIPImageProcessor,
        decode_chunk_size: int | None = None,
    ):
        super().__init__()
        self.vae = vae
        self.image_encoder = image_encoder
        self.decode_chunk_size = decode_chunk_size
        vae_config, clip_config = cast(Any, vae.config), cast(Any, image_encoder.config)
        self.latent_channels = vae_config.latent_channels
        self.spatial_factor = 2 ** (len(vae_config.block_out_channels) - 1)
        self.scaling_factor = float(vae_config.scaling_factor)  # 0.18215 in SVD
        self.embedding_dim = clip_config.projection_dim
        self.clip_size = clip_config.image_size  # 224 in SVD
        self.clip_mean: torch.Tensor
        self.clip_std: torch.Tensor
        self.register_buffer("clip_mean", torch.tensor(feature_extractor.image_mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("clip_std", torch.tensor(feature_extractor.image_std).view(1, 3, 1, 1), persistent=False)

    def encode_condition(self, image: torch.Tensor) -> torch.Tensor:
        self.latent_size(image.shape[-2], image.shape[-1])
        return cast(Any, self.vae.encode(image)).latent_dist.mode()  # (B, 4, h, w)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self.encode_condition(frames) * self.scaling_factor  # (N, 4, h, w)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        chunk_size = self.decode_chunk_size or latents.shape[1]
        clips = []
        for clip in latents / self.scaling_factor:  # (T, 4, h, w): chunks never mix two clips
            chunks = [cast(Any, self.vae.decode(part, len(part))).sample for part in clip.split(chunk_size)]
            clips.append(torch.cat(chunks))  # (T, 3, H, W)
        return torch.stack(clips).clamp(-1, 1)

    def embed_image(self, image: torch.Tensor) -> torch.Tensor:
        # resized while in [-1, 1] and moved to [0, 1] afterwards, as SVD was trained
        small = _resize_with_antialiasing(image, (self.clip_size, self.clip_size))  # (B, 3, 224, 224)
        pixels = ((small + 1) / 2 - self.clip_mean) / self.clip_std
        return self.image_encoder(pixels).image_embeds.unsqueeze(1)  # (B, 1, D)

    @classmethod
    def from_pretrained(cls, folder: Path | str, decode_chunk_size: int | None = None) -> SVDCodec:
        """Load `vae/`, `image_encoder/` and `feature_extractor/` of a diffusers SVD folder.

        float32 (the VAE overflows in half precision), frozen, in evaluation mode. UserError names the part at
        fault.
        """
        folder = Path(folder)
        vae = _load(AutoencoderKLTemporalDecoder, folder / "vae")
        # a config may name another implementation of attention, which transformers would fetch and run
        image_encoder = _load(CLIPVisionModelWithProjection, folder / "image_encoder", attn_implementation="eager")
        part = folder / "feature_extractor"
        check_no_code(part / "preprocessor_config.json")
        try:
            feature_extractor = CLIPImageProcessor.from_pretrained(part, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{part}: not the CLIPImageProcessor of an SVD folder: {_one_line(error)}") from error
        codec = cls(vae, image_encoder, cast(CLIPImageProcessor, feature_extractor), decode_chunk_size)
        return codec.requires_grad_(False).eval()

    @classmethod
    def without_weights(cls, folder: Path | str) -> SVDCodec:
        """The codec that the configs of a diffusers SVD folder describe, on the meta device."""
        folder = Path(folder)
        for part in ("vae", "image_encoder"):
            check_no_code(folder / part / "config.json")
        vae = cast(Any, AutoencoderKLTemporalDecoder)
        clip = CLIPVisionConfig(**load_json(folder / "image_encoder" / "config.json"))
        with torch.device("meta"):
            parts = (
                vae.from_config(load_json(folder / "vae" / "config.json")),
                # as `from_pretrained` asks for it
                CLIPVisionModelWithProjection._from_config(clip, attn_implementation="eager"),
            )
            codec = cls(*parts, CLIPImageProcessor())
        return codec.requires_grad_(False).eval()


def _load(model_class: Any, part: Path, **options: Any) -> Any:
    """Load one part strictly, from safetensors only; take the fp16 variant if there is no other."""
    files = sorted(part.glob("*.safetensors"))
    for file in files:
        if told := what_instead(file):
            raise UserError(f"{file}: {told}")
    weights = [file.name for file in files]
    variant = "fp16" if weights and all(".fp16." in name for name in weights) else None
    check_no_code(part / "config.json")
    try:
        model, info = model_class.from_pretrained(
            part,
            **options,
            variant=variant,
            torch_dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise UserError(f"{part}: not a {model_class.__name__} in safetensors: {_one_line(error)}") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise UserError(f"{part}: {len(missing)} tensors of {model_class.__name__} are missing, first {missing[0]}")
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
