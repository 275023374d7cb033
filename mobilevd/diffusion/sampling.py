"""Sampling from noise to latents: SVD's Euler sampler with guidance per frame, and generation in one evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mobilevd.diffusion.preconditioning import Conditions, Network, denoise


def frame_guidance(num_frames: int, minimum: float, maximum: float) -> Tensor:
    """Guidance scale per frame (T,): linear from `minimum` at the conditioning frame to `maximum` at the last."""
    return torch.linspace(minimum, maximum, num_frames)


def function_evaluations(num_steps: int, guidance: Tensor | None) -> int:
    """Number of function evaluations (NFE) of one clip; a guided step evaluates the network twice."""
    return num_steps * (2 if guidance is not None and bool((guidance > 1).any()) else 1)


@torch.no_grad()
def sample_euler(
    network: Network,
    noise: Tensor,
    sigmas: Tensor,
    conditions: Conditions,
    guidance: Tensor | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Integrate the probability-flow ODE with Euler steps over `sigmas`, the last step going to 0.

    Args:
        noise: (B, T, 4, h, w) of unit variance. The start is noise * sqrt(s_0^2 + 1), as diffusers' scheduler has it.
        sigmas: (n,) falling noise levels.
        guidance: (T,) scale per frame; None or nowhere above 1: no unconditional evaluation.
        on_step: called with the index of each finished step.

    Returns:
        (B, T, 4, h, w) latents.
    """
    guided = guidance is not None and bool((guidance > 1).any())
    sigmas = torch.cat([sigmas.double(), torch.zeros(1, dtype=torch.float64)])
    x = noise * float((sigmas[0] ** 2 + 1).sqrt())
    negative = conditions.unconditional() if guided else None
    for i in range(len(sigmas) - 1):
        level = torch.full((x.shape[0],), float(sigmas[i]), device=x.device, dtype=torch.float32)
        estimate = denoise(network, x, level, conditions)
        if guided and negative is not None and guidance is not None:
            plain = denoise(network, x, level, negative)
            scale = guidance.to(x.device, x.dtype)[None, :, None, None, None]
            estimate = plain + scale * (estimate - plain)
        derivative = (x - estimate) / float(sigmas[i])
        x = x + derivative * float(sigmas[i + 1] - sigmas[i])
        if on_step is not None:
            on_step(i)
    return x


def generate_one_step(network: Network, noise: Tensor, sigma: float, conditions: Conditions) -> Tensor:
    """One evaluation of the denoiser at the largest noise level, no guidance (SF-V); keeps gradients.

    noise (B, T, 4, h, w) of unit variance -> latents of the same shape.
    """
    level = torch.full((noise.shape[0],), sigma, device=noise.device, dtype=torch.float32)
    return denoise(network, noise * sigma, level, conditions)
