"""A training small enough for a test: a one-level UNet on random latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilevd.codecs.base import Codec
from mobilevd.config.objectives import AdversarialSettings, DenoiseSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.config.training import TrainingSettings
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, SpatioTemporalUNet
from training.data.batch import Batch, BatchSource
from training.data.draws import Draws
from training.data.memory_store import MemoryStore
from training.loop import Trainer
from training.objectives.adversarial import Adversarial
from training.objectives.base import TrainingContext
from training.objectives.denoise import Denoise

EMBEDDING = 8


DEFAULTS: dict[str, Any] = {
    "steps": 6,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "betas": (0.9, 0.99),
    "weight_decay": 0.0,
    "ema_decay": 0.5,
    "checkpoint_every": 2,
    "log_every": 1,
}


def train_settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{**DEFAULTS, **changes})


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


def clips(count: int = 8, seed: int = 0) -> MemoryStore:
    g = torch.Generator().manual_seed(seed)
    return MemoryStore(
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


def adversarial(unet: SpatioTemporalUNet, teacher: SpatioTemporalUNet | None = None, **changes: Any) -> Adversarial:
    """With `unet` in the place of the last multi-step model."""
    own = {"r1_weight": 0.1, "heads_learning_rate": 1e-3, "discriminator_steps_first": 1, **changes}
    context = TrainingContext(
        DiffusionSettings(), EMBEDDING, lambda: unet, lambda: small_unet() if teacher is None else teacher
    )
    return Adversarial(AdversarialSettings(**own), context)


def denoise() -> Denoise:
    return Denoise(DenoiseSettings(), TrainingContext(DiffusionSettings(), EMBEDDING))


def source(data: MemoryStore | None = None, batch_size: int = 2, seed: int = 3) -> BatchSource:
    return BatchSource(data or clips(), StridedCodec(), 7, torch.device("cpu"), batch_size, seed)


def draw(count: int = 2, step: int = 0) -> tuple[Batch, Draws]:
    """A batch of a step of the generator, and its draws."""
    places = range(count)
    draws = Draws(3, step, 0, places)
    return source(batch_size=count).draw(step, 0, places, draws), draws


def trainer(folder: Path, objective: str = "denoise", **changes: Any) -> Trainer:
    unet = small_unet()
    made = adversarial(unet) if objective == "adversarial" else denoise()
    settings = train_settings(**changes)
    return Trainer(unet, made, (), source(batch_size=settings.batch_size), settings, folder, seed=3)
