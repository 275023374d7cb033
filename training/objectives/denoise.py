"""The denoising objective of SVD: the loss that a multi-step model is trained and finetuned with."""

from __future__ import annotations

import torch
from torch import Tensor

from mobilevd.config.objectives import DenoiseSettings
from mobilevd.diffusion.preconditioning import Network, denoise, loss_weight
from training.data.batch import Batch
from training.data.draws import Draws
from training.objectives.base import Objective, TrainingContext


class Denoise(Objective):
    """E[ (1+s^2)/s^2 |D(x0 + s n; s) - x0|^2 ], ln s ~ N(p_mean, p_std^2), conditions dropped now and then.

    p_mean and p_std are the run's (SVD: 0.7 and 1.6). With probability `conditioning_dropout` (SVD: 0.1) the image latents
    and the embedding of a clip are replaced by zeros, both together: the unconditional input that guidance compares with.
    """

    settings_class = DenoiseSettings

    def __init__(self, settings: DenoiseSettings, context: TrainingContext) -> None:
        self.conditioning_dropout = settings.conditioning_dropout
        self.p_mean, self.p_std = context.diffusion.p_mean, context.diffusion.p_std

    def loss(self, phase: str, unet: Network, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        x0 = batch.latents
        sigma = torch.exp(self.p_mean + self.p_std * draws.normal()).to(x0.device)
        noise = draws.normal(*x0.shape[1:]).to(x0.device)
        keep = (draws.uniform() >= self.conditioning_dropout).float().to(x0.device)
        conditions = batch.conditions.drop(keep)
        estimate = denoise(unet, x0 + sigma[:, None, None, None, None] * noise, sigma, conditions)
        error = (estimate - x0).float().pow(2).mean((1, 2, 3, 4))
        loss = (loss_weight(sigma) * error).mean()
        return loss, {"loss": loss.detach()}
