"""Conditioning on the first frame: micro-conditioning values and noise augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from mobilevd.codecs.base import Codec
from mobilevd.diffusion.preconditioning import Conditions


def added_time_ids(
    batch: int,
    fps: float,
    motion_bucket_id: float | Tensor,
    noise_aug_strength: float | Tensor,
    device: torch.device | None = None,
) -> Tensor:
    """(B, 3): fps - 1, motion bucket, noise-augmentation strength; SVD was trained on fps - 1."""
    ids = torch.empty(batch, 3, device=device)
    ids[:, 0] = fps - 1
    ids[:, 1] = motion_bucket_id
    ids[:, 2] = noise_aug_strength
    return ids


@torch.no_grad()
def condition_on_image(
    codec: Codec,
    images: Tensor,
    embeddings: Tensor | None,
    fps: float,
    motion_bucket_id: float | Tensor,
    noise_aug_strength: float | Tensor,
    noise: torch.Generator | Tensor | None = None,
) -> Conditions:
    """Encode first frames (B, 3, H, W) in [-1, 1] as SVD does: pixel noise of the given strength, then the mode latent.

    `embeddings` (B, 1, D) are those of the clean frames; None computes them. `motion_bucket_id` and `noise_aug_strength`
    are one number or (B,); `noise` is (B, 3, H, W) of unit variance, or the generator that it is drawn from.
    """
    batch = images.shape[0]
    if not isinstance(noise, Tensor):
        noise = torch.randn(images.shape, generator=noise)
    strength = torch.as_tensor(noise_aug_strength, dtype=images.dtype, device=images.device).expand(batch)
    latents = codec.encode_condition(images + strength[:, None, None, None] * noise.to(images))
    embeddings = codec.embed_image(images) if embeddings is None else embeddings
    ids = added_time_ids(batch, fps, motion_bucket_id, strength, images.device)
    return Conditions(latents, embeddings, ids)
