"""A training small enough for a test: a one-level UNet on random latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mobilevd.codecs.base import Codec
from mobilevd.unet import CROSS_DOWN, CROSS_UP, SpatioTemporalUNet
from training.batch import BatchSource
from training.discriminator import DiscriminatorHeads, FrozenEncoder
from training.loop import Trainer
from training.objectives.adversarial import AdversarialObjective
from training.objectives.denoise import DenoiseObjective

EMBEDDING = 8


@dataclass
class Settings:
    steps: int = 6
    batch_size: int = 2
    gradient_accumulation: int = 1
    learning_rate: float = 1e-3
    schedule: str = "constant"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    ema_decay: float = 0.5
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    max_grad_norm: float = 1.0
    warmup_steps: int = 0
    checkpoint_every: int = 2
    log_every: int = 1


class StridedCodec(Codec):
    """Takes every fourth pixel; enough for what training asks of a codec."""

    name, latent_channels, spatial_factor, scaling_factor, embedding_dim = "strided", 4, 4, 1.0, EMBEDDING

    def encode_condition(self, image: Tensor) -> Tensor:
        small = image[:, :, ::4, ::4]
        return torch.cat([small, small[:, :1]], dim=1)

    def encode(self, frames: Tensor) -> Tensor:
        return self.encode_condition(frames)

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :, :3].repeat_interleave(4, 3).repeat_interleave(4, 4)

    def embed_image(self, image: Tensor) -> Tensor:
        return image.mean((1, 2, 3))[:, None, None].expand(-1, 1, EMBEDDING)


@dataclass
class Clips:
    latents: Tensor
    first_frames: Tensor
    embeddings: Tensor


def clips(count: int = 8, seed: int = 0) -> Clips:
    g = torch.Generator().manual_seed(seed)
    return Clips(
        torch.randn(count, 4, 4, 4, 4, generator=g),
        torch.randint(0, 256, (count, 3, 16, 16), generator=g).byte(),
        torch.randn(count, 1, EMBEDDING, generator=g),
    )


def small_unet(**changes: object) -> SpatioTemporalUNet:
    torch.manual_seed(0)
    arguments = {
        "down_block_types": (CROSS_DOWN,),
        "up_block_types": (CROSS_UP,),
        "block_out_channels": (32,),
        "layers_per_block": 1,
        "num_attention_heads": 2,
        "cross_attention_dim": EMBEDDING,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
        "num_frames": 4,
        **changes,
    }
    return SpatioTemporalUNet(**arguments)  # type: ignore[arg-type]


def adversarial(unet: SpatioTemporalUNet, **changes: object) -> AdversarialObjective:
    encoder = FrozenEncoder(unet)
    arguments = {
        "sigma_min": 0.002,
        "sigma_max": 700.0,
        "rho": 7.0,
        "grid_steps": 4,
        "sigma_points": 3,
        "p_mean": -1.0,
        "p_std": 1.0,
        "r1_weight": 0.1,
        "huber_weight": 0.1,
        "huber_c": 0.03,
        "heads_learning_rate": 1e-3,
        "discriminator_steps_first": 1,
        **changes,
    }
    heads = DiscriminatorHeads(encoder.channels, EMBEDDING)
    return AdversarialObjective(encoder, heads, **arguments)  # type: ignore[arg-type]


def denoise() -> DenoiseObjective:
    return DenoiseObjective(0.7, 1.6, 0.1)


def source(data: Clips | None = None) -> BatchSource:
    return BatchSource(data or clips(), StridedCodec(), 7, 127, torch.device("cpu"))


def trainer(folder: Path, objective: str = "denoise", **settings: object) -> Trainer:
    unet = small_unet()
    made = adversarial(unet) if objective == "adversarial" else denoise()
    return Trainer(unet, made, (), source(), Settings(**settings), folder, seed=3)  # type: ignore[arg-type]
