"""Adversarial one-step finetuning (SF-V, arXiv 2406.04324; MobileVD uses it with its compressed UNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.config.objectives import AdversarialSettings
from mobilevd.diffusion.preconditioning import Network, denoise
from mobilevd.diffusion.sigmas import discretized_lognormal_sigmas, karras_sigmas
from training.data.batch import Batch
from training.discriminator import DiscriminatorHeads, FrozenEncoder
from training.objectives.base import GENERATOR, Objective, TrainingContext
from training.objectives.distillation import Teacher

DISCRIMINATOR = "discriminator"
GRID_POINTS = 1000  # points of the grid that the discriminator's noise levels are drawn from


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """sqrt(|d|^2 + c^2) - c per sample, |d| the Euclidean norm over all its elements: (B, ...) -> (B,)."""
    return (difference.flatten(1).pow(2).sum(1) + c * c).sqrt() - c


class Adversarial(Objective):
    """Hinge losses on re-noised latents, R1 on real ones, and a pseudo-Huber pull towards the data.

    The discriminator is the encoder of the last multi-step model, frozen, with trained heads. The generator trains at
    noise levels drawn uniformly from the first `sigma_points` of a Karras grid of `grid_steps`, and is used at the
    first alone. The R1 penalty is on the squared gradient of the logits by the heads' inputs, as in ADD.

    With a `distillation_weight`, a trained one-step model's outputs on the same noise pull the generator too (not in
    SF-V), so that a compressed model recovers quickly.
    """

    settings_class = AdversarialSettings

    def __init__(self, settings: AdversarialSettings, context: TrainingContext) -> None:
        diffusion = context.diffusion
        grid = diffusion.sigma_min, diffusion.sigma_max, diffusion.rho
        self.settings = settings
        self.encoder = FrozenEncoder(context.load_multi_step())
        self.heads = DiscriminatorHeads(self.encoder.channels, context.embedding_dim, settings.heads_depth)
        self.levels = karras_sigmas(settings.grid_steps, *grid)[: settings.sigma_points].float()
        self.grid = karras_sigmas(GRID_POINTS, *grid)
        self.teacher = Teacher(context.load_teacher()) if settings.has_teacher else None

    def modules(self) -> dict[str, nn.Module]:
        return {DISCRIMINATOR: self.heads}

    def phases(self, step: int) -> list[str]:
        return [DISCRIMINATOR] if step < self.settings.discriminator_steps_first else [DISCRIMINATOR, GENERATOR]

    def learning_rate(self, phase: str, default: float) -> float:
        return self.settings.heads_learning_rate if phase == DISCRIMINATOR else default

    def loss(
        self, phase: str, unet: Network, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        self.encoder.to(batch.latents.device)
        if phase == DISCRIMINATOR:
            return self._discriminator_loss(unet, batch, generator)
        return self._generator_loss(unet, batch, generator)

    def _noised(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return x0 + s n, and s (B,) from the first points of the coarse grid."""
        x0 = batch.latents
        index = torch.randint(len(self.levels), (x0.shape[0],), generator=generator)
        sigma = self.levels[index].to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        return x0 + sigma[:, None, None, None, None] * noise, sigma

    def _generate(self, unet: Network, batch: Batch, generator: torch.Generator) -> Tensor:
        """x0_hat = D(x0 + s n; s)."""
        return denoise(unet, *self._noised(batch, generator), batch.conditions)

    def _features(self, x: Tensor, batch: Batch, generator: torch.Generator) -> list[Tensor]:
        """Add noise at new levels s' and encode."""
        mean, std = self.settings.discriminator_p_mean, self.settings.discriminator_p_std
        sigma = discretized_lognormal_sigmas(x.shape[0], self.grid, mean, std, generator).to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x.device)
        return self.encoder(x + sigma[:, None, None, None, None] * noise, sigma, batch.conditions)

    def _discriminator_loss(
        self, unet: Network, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            fake = self._generate(unet, batch, generator)
            fake_features = [f.float() for f in self._features(fake, batch, generator)]
            real_features = [f.float() for f in self._features(batch.latents, batch, generator)]
        # the heads run in full precision: the penalty's second derivative loses too much in half
        with torch.autocast(batch.latents.device.type, enabled=False):
            for feature in real_features:
                feature.requires_grad_(self.settings.r1_weight > 0)
            real = self.heads(real_features, batch.conditions)
            fake_logits = self.heads(fake_features, batch.conditions)
            loss = torch.stack(
                [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake_logits, strict=True)]
            ).mean()
            penalty = torch.zeros((), device=loss.device)
            if self.settings.r1_weight > 0:
                total = torch.stack([r.mean(1).sum() for r in real]).sum()
                gradients = torch.autograd.grad(total, real_features, create_graph=True)
                clips = batch.latents.shape[0]
                penalty = torch.stack([g.reshape(clips, -1).pow(2).sum(1).mean() for g in gradients]).mean()
        figures = {
            "loss_d": float(loss.detach()),
            "r1": float(penalty.detach()),
            "real": float(torch.cat([r.detach().flatten() for r in real]).mean()),
            "fake": float(torch.cat([f.detach().flatten() for f in fake_logits]).mean()),
        }
        return loss + self.settings.r1_weight * penalty, figures

    def _generator_loss(
        self, unet: Network, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        noised, sigma = self._noised(batch, generator)
        estimate = denoise(unet, noised, sigma, batch.conditions)
        features = [f.float() for f in self._features(estimate, batch, generator)]
        with torch.autocast(batch.latents.device.type, enabled=False):
            logits = self.heads(features, batch.conditions)
            adversarial = -torch.stack([logit.mean() for logit in logits]).mean()
            reconstruction = pseudo_huber((estimate - batch.latents).float(), self.settings.huber_c).mean()
        figures = {"loss_g": float(adversarial.detach()), "huber": float(reconstruction.detach())}
        loss = adversarial + self.settings.huber_weight * reconstruction
        if self.teacher is not None:
            distance = self.teacher.distance(estimate, noised, sigma, batch.conditions)
            loss = loss + self.settings.distillation_weight * distance
            figures["teacher"] = float(distance.detach())
        return loss, figures
