"""Output distillation of a one-step generator: a compressed model learns what the one before its compression does."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mobilevd.diffusion.preconditioning import Network
from mobilevd.diffusion.sampling import generate_one_step
from mobilevd.unet import SpatioTemporalUNet
from training.batch import Batch
from training.objectives.base import Phase


class DistillationObjective:
    """E[ |G(n, c) - G_teacher(n, c)|^2 ], both evaluated once at the largest noise level, on the same noise and condition.

    A one-step generator is a deterministic map, so there is nothing to be averaged over, as there would be with data
    for a target: the squared error gives no blur. It needs no discriminator, costs less than half an
    adversarial step, and teaches nothing that the teacher cannot do.

    Args:
        teacher: a trained one-step model; never changed.
        sigma: the noise level of generation (sigma_max).
    """

    def __init__(self, teacher: SpatioTemporalUNet, sigma: float) -> None:
        self.teacher, self.sigma = teacher.requires_grad_(False).eval(), sigma

    def modules(self) -> dict[str, nn.Module]:
        return {}

    def phases(self, step: int) -> list[Phase]:
        return [Phase("generator", draws_gates=True)]

    def learning_rate(self, phase: str, default: float) -> float:
        return default

    def loss(
        self, phase: str, unet: Network, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        cast(nn.Module, self.teacher).to(batch.latents.device)
        noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents.device)
        with torch.no_grad():
            target = generate_one_step(self.teacher, noise, self.sigma, batch.conditions)
        estimate = generate_one_step(unet, noise, self.sigma, batch.conditions)
        loss = (estimate - target).float().pow(2).mean()
        return loss, {"loss": float(loss.detach())}
