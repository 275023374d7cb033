"""Output distillation of a one-step generator: a compressed model learns the outputs of an earlier one-step model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevd.config.objectives import DistillationSettings
from mobilevd.diffusion.preconditioning import Conditions, Network, denoise
from mobilevd.model.unet import SpatioTemporalUNet
from training.data.batch import Batch
from training.data.draws import Draws
from training.frozen import frozen, in_precision_of
from training.objectives.base import Objective, TrainingContext


class Teacher:
    """A trained one-step model, never changed, whose outputs are targets.

    A one-step generator is a deterministic map. With it as the target, unlike with data, the squared error has nothing
    to average over and so asks for no blur.
    """

    def __init__(self, unet: SpatioTemporalUNet, dtype: torch.dtype = torch.float32) -> None:
        self.unet = frozen(unet, dtype)

    def distance(self, estimate: Tensor, noised: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        """Mean squared difference of `estimate` and the teacher's estimate from the same `noised` (B, T, 4, h, w)."""
        with torch.no_grad(), in_precision_of(self.unet):
            target = denoise(self.unet, noised, sigma, conditions)
        return (estimate - target).float().pow(2).mean()


class Distillation(Objective):
    """E[ |G(n, c) - G_teacher(n, c)|^2 ], both evaluated once at the largest noise level, on the same noise and condition.

    It needs no discriminator, costs less than half an adversarial step, and teaches nothing that the teacher cannot do.
    """

    settings_class = DistillationSettings

    def __init__(self, settings: DistillationSettings, context: TrainingContext) -> None:
        self.teacher = Teacher(context.load_teacher(), context.frozen_dtype)
        self.sigma = context.diffusion.sigma_max

    def frozen(self) -> list[nn.Module]:
        return [self.teacher.unet]

    def loss(self, phase: str, unet: Network, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        noise = draws.normal(*batch.latents.shape[1:]).to(batch.latents.device)
        noised, sigma = noise * self.sigma, noise.new_full((noise.shape[0],), self.sigma)
        estimate = denoise(unet, noised, sigma, batch.conditions)
        loss = self.teacher.distance(estimate, noised, sigma, batch.conditions)
        return loss, {"loss": loss.detach()}
