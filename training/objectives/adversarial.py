"""Adversarial one-step finetuning (SF-V, arXiv 2406.04324; MobileVD uses it with its compressed UNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.diffusion.preconditioning import Network, denoise
from mobilevd.diffusion.sigmas import discretized_lognormal_sigmas, karras_sigmas
from mobilevd.unet import SpatioTemporalUNet
from training.batch import Batch
from training.discriminator import DiscriminatorHeads, FrozenEncoder
from training.objectives.base import Phase
from training.objectives.distillation import Teacher

GRID_POINTS = 1000  # of the grid that the discriminator's noise levels are drawn from


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """sqrt(|d|^2 + c^2) - c per sample, |d| the Euclidean norm over all its elements: (B, ...) -> (B,)."""
    return (difference.flatten(1).pow(2).sum(1) + c * c).sqrt() - c


class AdversarialObjective:
    """Hinge losses on re-noised latents, R1 on real ones, and a pseudo-Huber pull towards the data.

    Args:
        encoder: frozen feature extractor, from the last multi-step model.
        heads: the discriminator's trained part.
        sigma_min, sigma_max, rho: of the Karras grids.
        grid_steps, sigma_points: the generator trains at noise levels drawn uniformly from the first `sigma_points` of a
            grid of `grid_steps`; it is used at the first alone.
        p_mean, p_std: ln of the noise level s' that real and generated latents are noised with again.
        r1_weight: on the squared gradient of the logits by the heads' inputs, as in ADD.
        huber_weight, huber_c: of the reconstruction loss.
        heads_learning_rate: of the discriminator.
        discriminator_steps_first: steps in which the generator rests.
        teacher: a trained one-step model, whose outputs on the same noise pull the generator too (not in SF-V): what
            a compressed model needs to come back quickly to what it was. Never changed.
        distillation_weight: of the squared distance to the teacher's output.
    """

    def __init__(
        self,
        encoder: FrozenEncoder,
        heads: DiscriminatorHeads,
        *,
        sigma_min: float,
        sigma_max: float,
        rho: float,
        grid_steps: int,
        sigma_points: int,
        p_mean: float,
        p_std: float,
        r1_weight: float,
        huber_weight: float,
        huber_c: float,
        heads_learning_rate: float,
        discriminator_steps_first: int,
        teacher: SpatioTemporalUNet | None = None,
        distillation_weight: float = 0.0,
    ) -> None:
        self.encoder, self.heads = encoder, heads
        self.levels = karras_sigmas(grid_steps, sigma_min, sigma_max, rho)[:sigma_points].float()
        self.grid = karras_sigmas(GRID_POINTS, sigma_min, sigma_max, rho)
        self.p_mean, self.p_std = p_mean, p_std
        self.r1_weight, self.huber_weight, self.huber_c = r1_weight, huber_weight, huber_c
        self.heads_learning_rate = heads_learning_rate
        self.discriminator_steps_first = discriminator_steps_first
        self.teacher = None if teacher is None else Teacher(teacher)
        self.distillation_weight = distillation_weight

    def modules(self) -> dict[str, nn.Module]:
        return {"discriminator": self.heads}

    def phases(self, step: int) -> list[Phase]:
        turns = [Phase("discriminator", draws_gates=True)]
        if step >= self.discriminator_steps_first:
            turns.append(Phase("generator", draws_gates=True))
        return turns

    def learning_rate(self, phase: str, default: float) -> float:
        return self.heads_learning_rate if phase == "discriminator" else default

    def loss(
        self, phase: str, unet: Network, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        self.encoder.to(batch.latents.device)
        if phase == "discriminator":
            return self._discriminator_loss(unet, batch, generator)
        return self._generator_loss(unet, batch, generator)

    def _noised(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """x0 + s n, and s (B,) from the first points of the coarse grid."""
        x0 = batch.latents
        index = torch.randint(len(self.levels), (x0.shape[0],), generator=generator)
        sigma = self.levels[index].to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        return x0 + sigma[:, None, None, None, None] * noise, sigma

    def _generate(self, unet: Network, batch: Batch, generator: torch.Generator) -> Tensor:
        """x0_hat = D(x0 + s n; s)."""
        return denoise(unet, *self._noised(batch, generator), batch.conditions)

    def _features(self, x: Tensor, batch: Batch, generator: torch.Generator) -> list[Tensor]:
        """Noise again with s' and encode."""
        sigma = discretized_lognormal_sigmas(x.shape[0], self.grid, self.p_mean, self.p_std, generator).to(x.device)
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
                feature.requires_grad_(self.r1_weight > 0)
            real = self.heads(real_features, batch.conditions)
            fake_logits = self.heads(fake_features, batch.conditions)
            loss = torch.stack(
                [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake_logits, strict=True)]
            ).mean()
            penalty = torch.zeros((), device=loss.device)
            if self.r1_weight > 0:
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
        return loss + self.r1_weight * penalty, figures

    def _generator_loss(
        self, unet: Network, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        noised, sigma = self._noised(batch, generator)
        estimate = denoise(unet, noised, sigma, batch.conditions)
        features = [f.float() for f in self._features(estimate, batch, generator)]
        with torch.autocast(batch.latents.device.type, enabled=False):
            logits = self.heads(features, batch.conditions)
            adversarial = -torch.stack([logit.mean() for logit in logits]).mean()
            reconstruction = pseudo_huber((estimate - batch.latents).float(), self.huber_c).mean()
        figures = {"loss_g": float(adversarial.detach()), "huber": float(reconstruction.detach())}
        loss = adversarial + self.huber_weight * reconstruction
        if self.teacher is not None:
            distance = self.teacher.distance(estimate, noised, sigma, batch.conditions)
            loss = loss + self.distillation_weight * distance
            figures["teacher"] = float(distance.detach())
        return loss, figures
