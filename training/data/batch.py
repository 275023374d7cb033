"""Batches that depend on the step's number alone: an interrupted training draws the same ones again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mobilevd.codecs.base import Codec
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.diffusion.preconditioning import Conditions
from mobilevd.pixels import to_float

# ln of the noise-augmentation strength of the conditioning frame in SVD's training (recalled, not published with it)
AUG_P_MEAN, AUG_P_STD = -3.0, 0.5


class Latents(Protocol):
    """The encoded clips that training needs (`training.data.latents.LatentDataset`)."""

    @property
    def latents(self) -> Tensor:
        """Latents (N, T, 4, h, w), scaled."""
        ...

    @property
    def first_frames(self) -> Tensor:
        """First frames, uint8 (N, 3, H, W)."""
        ...

    @property
    def embeddings(self) -> Tensor:
        """Embeddings of the first frames (N, 1, D)."""
        ...


@dataclass
class Batch:
    """Clean latents (B, T, 4, h, w) and their conditions."""

    latents: Tensor
    conditions: Conditions


def step_generator(*numbers: int) -> torch.Generator:
    """A generator whose state is a function of the numbers (seed, step, rank, ...) and of nothing else."""
    seed = 0
    for number in numbers:
        # a 64-bit mixing step (splitmix64's constants): neighbouring numbers give unrelated seeds
        seed = (seed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        seed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        seed ^= seed >> 27
    return torch.Generator().manual_seed(seed & 0x7FFFFFFFFFFFFFFF)


class BatchSource:
    """Draws random batches of encoded clips and encodes their noise-augmented first frames as conditions."""

    def __init__(self, data: Latents, codec: Codec, fps: float, motion_bucket_id: float, device: torch.device) -> None:
        self.data, self.codec = data, codec
        self.fps, self.motion_bucket_id, self.device = fps, motion_bucket_id, device

    def draw(self, size: int, generator: torch.Generator) -> Batch:
        """Draw `size` clips with replacement; the noise-augmentation strength is drawn per clip, ln ~ N(-3, 0.5^2)."""
        index = torch.randint(len(self.data.latents), (size,), generator=generator)
        latents = self.data.latents[index].float().to(self.device)
        images = to_float(self.data.first_frames[index]).to(self.device)
        embeddings = self.data.embeddings[index].float().to(self.device)
        strength = torch.exp(AUG_P_MEAN + AUG_P_STD * torch.randn(size, generator=generator)).to(self.device)
        conditions = condition_on_image(
            self.codec, images, embeddings, self.fps, self.motion_bucket_id, strength, generator
        )
        if not math.isfinite(float(latents.sum())):
            raise ValueError("the encoded clips hold values that are not finite; delete the latent cache")
        return Batch(latents, conditions)
