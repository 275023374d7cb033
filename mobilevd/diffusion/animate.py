"""First frames to clips: the sampler that a model is used with, and generation in batches that never change a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mobilevd.codecs.base import Codec
from mobilevd.config.data import DataSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.diffusion.preconditioning import Conditions, Network
from mobilevd.diffusion.sampling import frame_guidance, generate_one_step, sample_euler
from mobilevd.diffusion.sigmas import karras_sigmas
from mobilevd.pixels import frames_to_tensor, tensor_to_frames

Sampler = Callable[[Tensor, Conditions], Tensor]
"""A map from unit-variance noise (B, T, 4, h, w) and conditions to latents of the noise's shape."""


def make_sampler(
    unet: Network, diffusion: DiffusionSettings, num_frames: int, one_step: bool, num_steps: int | None = None
) -> Sampler:
    """The sampler of a model: one evaluation, or the Euler sampler with its guidance.

    Args:
        num_steps: Euler steps; None takes `diffusion.num_steps`.
    """
    if one_step:
        return lambda noise, conditions: generate_one_step(unet, noise, diffusion.sigma_max, conditions)
    sigmas = karras_sigmas(num_steps or diffusion.num_steps, diffusion.sigma_min, diffusion.sigma_max, diffusion.rho)
    guidance = frame_guidance(num_frames, diffusion.guidance_min, diffusion.guidance_max)
    return lambda noise, conditions: sample_euler(unet, noise, sigmas, conditions, guidance)


@torch.no_grad()
def animate(
    sample: Sampler,
    codec: Codec,
    first_frames: np.ndarray,
    seeds: Sequence[int],
    data: DataSettings,
    diffusion: DiffusionSettings,
    mixed_precision: str = "no",
) -> np.ndarray:
    """Animate first frames, uint8 (N, H, W, 3) -> clips, uint8 (N, T, H, W, 3), all in one batch.

    A clip's noise comes from its own seed, so it is the same clip in any batch. Codec and pixels stay in float32.

    Args:
        mixed_precision: "bf16" samples under autocast.
    """
    device = next(codec.parameters(), torch.empty(0)).device
    images = frames_to_tensor(first_frames).to(device)  # (N, 3, H, W)
    latent_size = codec.latent_size(*first_frames.shape[1:3])
    noise, conditions = [], []
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        noise.append(torch.randn((data.num_frames, codec.latent_channels, *latent_size), generator=generator))
        strength = diffusion.noise_aug_strength
        image = images[i : i + 1]
        conditions.append(condition_on_image(codec, image, None, data.fps, data.motion_bucket_id, strength, generator))
    batch = Conditions(
        torch.cat([c.image_latents for c in conditions]),
        torch.cat([c.image_embedding for c in conditions]),
        torch.cat([c.added_time_ids for c in conditions]),
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision == "bf16"):
        latents = sample(torch.stack(noise).to(device), batch)
    decoded = codec.decode(latents.float())  # (N, T, 3, H, W)
    return np.stack([tensor_to_frames(clip) for clip in decoded])  # one by one: rounding takes copies in float
