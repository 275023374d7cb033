"""Trainings on random clips, at two sizes, ours and as a plain loop on diffusers' UNet."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from benchmarks.latency.model import MEDIUM
from mobilevd.codecs.base import Codec
from mobilevd.config.objectives import AdversarialSettings, DenoiseSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.config.training import TrainingSettings
from mobilevd.diffusion.preconditioning import denoise, loss_weight
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet
from training.data.batch import BatchSource
from training.data.draws import Draws
from training.data.memory_store import MemoryStore
from training.loop import Trainer
from training.objectives.adversarial import Adversarial
from training.objectives.base import TrainingContext
from training.objectives.denoise import Denoise

SIZES: dict[str, tuple[dict[str, Any], tuple[int, int, int], int]] = {
    # config of the UNet; frames, height and width of the latents; clips per step
    "tiny": (
        {
            "down_block_types": (CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN),
            "up_block_types": (PLAIN_UP, CROSS_UP, CROSS_UP),
            "block_out_channels": (32, 64, 96),
            "layers_per_block": 1,
            "num_attention_heads": (1, 2, 3),
            "cross_attention_dim": 96,
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 96,
            "num_frames": 8,
        },
        (8, 12, 24),
        8,
    ),
    "medium": (MEDIUM, (14, 32, 64), 1),
}


class StridedCodec(Codec):
    """Takes every fourth pixel: a benchmark of the UNet's training has no use for a codec's time."""

    name, latent_channels, spatial_factor, scaling_factor = "strided", 4, 4, 1.0

    def encode_condition(self, image: Tensor) -> Tensor:
        small = image[:, :, ::4, ::4]
        return torch.cat([small, small[:, :1]], dim=1)

    def encode(self, frames: Tensor) -> Tensor:
        return self.encode_condition(frames)

    def decode(self, latents: Tensor) -> Tensor:
        raise TypeError("a benchmark of training decodes nothing")

    def embed_image(self, image: Tensor) -> Tensor:
        raise TypeError("embeddings are stored")


def settings_of(size: str, precision: Any, **changes: Any) -> TrainingSettings:
    return TrainingSettings(
        batch_size=SIZES[size][2], mixed_precision=precision, learning_rate=1e-5, steps=10**6, **changes
    )


def source_of(size: str, batch_size: int) -> BatchSource:
    config, (frames, height, width), _ = SIZES[size]
    g = torch.Generator().manual_seed(0)
    data = MemoryStore(
        torch.randn(8, frames, 4, height, width, generator=g),
        torch.randint(0, 256, (8, 3, 4 * height, 4 * width), generator=g).byte(),
        torch.randn(8, 1, config["cross_attention_dim"], generator=g),
    )
    return BatchSource(data, StridedCodec(), 7, torch.device("cpu"), batch_size, 0)


def our_trainer(size: str, precision: str, objective: str = "denoise", own: Any = None, **changes: Any) -> Trainer:
    """The product's trainer, on random weights and clips."""
    torch.manual_seed(0)
    config = SIZES[size][0]
    unet = SpatioTemporalUNet(**config)
    context = TrainingContext(DiffusionSettings(), config["cross_attention_dim"], load_multi_step=lambda: unet)
    if objective == "denoise":
        made: Any = Denoise(DenoiseSettings(), context)
    else:
        made = Adversarial(AdversarialSettings(discriminator_steps_first=0, **(own or {})), context)
    settings = settings_of(size, precision, **changes)
    folder = Path(tempfile.mkdtemp(prefix="mobilevd-bench-"))
    return Trainer(unet, made, (), source_of(size, settings.batch_size), settings, folder, 0)


def our_step(trainer: Trainer) -> Callable[[int], None]:
    """A function that takes optimizer step number n."""
    return lambda step: void(trainer._step(step))


def void(_: object) -> None:
    return None


def plain_diffusers(size: str, precision: str, compile: bool = False) -> Callable[[int], None]:
    """The loop that finetuning scripts for SVD have, on diffusers' UNet: AdamW, clipping, EMA; the same loss and clips.

    `compile`: torch.compile of each of its blocks, as `training.compile` does it with ours.
    """
    torch.manual_seed(0)
    config, _, clips = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        SpatioTemporalUNet(**config).save_svd(folder)
        unet = UNetSpatioTemporalConditionModel.from_pretrained(folder).train()  # type: ignore[union-attr]
    for block in unet.modules() if compile else ():
        if isinstance(block, (SpatioTemporalResBlock, TransformerSpatioTemporalModel)):
            block.compile(dynamic=False)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-5, weight_decay=1e-3)
    ema = EMAModel(unet.parameters(), decay=0.999)
    source, defaults = source_of(size, clips), DiffusionSettings()

    def network(*inputs: Tensor) -> Tensor:
        return unet(*inputs, return_dict=False)[0]

    def step(number: int) -> None:
        places = range(clips)
        draws = Draws(0, number, 0, places)
        batch = source.draw(number, 0, places, draws)
        x0 = batch.latents
        sigma = torch.exp(defaults.p_mean + defaults.p_std * draws.normal())
        noise = draws.normal(*x0.shape[1:])
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            estimate = denoise(network, x0 + sigma[:, None, None, None, None] * noise, sigma, batch.conditions)
            error = (estimate - x0).float().pow(2).mean((1, 2, 3, 4))
            loss = (loss_weight(sigma) * error).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(unet.parameters())
        float(loss.detach())  # as such scripts log it

    return step
