"""Adversarial one-step finetuning (SF-V, arXiv 2406.04324; MobileVD uses it with its compressed UNet)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.config.objectives import AdversarialSettings
from mobilevd.diffusion.preconditioning import Network, denoise
from mobilevd.diffusion.sigmas import discretized_lognormal_weights, karras_sigmas
from training.data.batch import Batch
from training.data.draws import Draws
from training.discriminator import DiscriminatorHeads, FrozenEncoder
from training.objectives.base import GENERATOR, Objective, TrainingContext
from training.objectives.distillation import Teacher
from training.objectives.gradient_penalty import finite_difference_penalty, gradient_penalty

DISCRIMINATOR = "discriminator"
SHARED = "shared"
"""The phase that trains heads and generator from one pass of the generator."""
GRID_POINTS = 1000  # points of the grid that the discriminator's noise levels are drawn from


@dataclass(frozen=True)
class Features:
    """Feature maps (B*T, C_i, h_i, w_i) of re-noised clips, and their noise levels s' (B,)."""

    maps: list[Tensor]
    sigma: Tensor

    def detach(self) -> Features:
        return Features([each.detach() for each in self.maps], self.sigma)


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """sqrt(|d|^2 + c^2) - c per sample, |d| the Euclidean norm over all its elements: (B, ...) -> (B,)."""
    return (difference.flatten(1).pow(2).sum(1) + c * c).sqrt() - c


class Adversarial(Objective):
    """Hinge losses on re-noised latents, R1 on real ones, and a pseudo-Huber pull towards the data.

    The discriminator is the encoder of the last multi-step model, frozen, with trained heads. The generator trains at
    noise levels drawn uniformly from the first `sigma_points` of a Karras grid of `grid_steps`, and is used at the
    first alone. The R1 penalty is on the squared gradient of the logits by the heads' inputs, as in ADD.

    With `updates: shared` both learn from the same clips in one turn: the generator's output and its features are computed
    once, the heads see them detached, and the generator is judged by the heads as they were before the turn.

    With a `distillation_weight`, a trained one-step model's outputs on the same noise pull the generator too (not in
    SF-V), so that a compressed model recovers quickly.
    """

    settings_class = AdversarialSettings

    def __init__(self, settings: AdversarialSettings, context: TrainingContext) -> None:
        diffusion = context.diffusion
        grid = diffusion.sigma_min, diffusion.sigma_max, diffusion.rho
        self.settings = settings
        self.encoder = FrozenEncoder(context.load_multi_step(), context.frozen_dtype)
        self.heads = DiscriminatorHeads(
            self.encoder.channels, context.embedding_dim, settings.heads_depth, settings.heads_conditions
        )
        self.levels = karras_sigmas(settings.grid_steps, *grid)[: settings.sigma_points].float()
        self.grid = karras_sigmas(GRID_POINTS, *grid)
        self.weights = discretized_lognormal_weights(
            self.grid, settings.discriminator_p_mean, settings.discriminator_p_std
        )
        self.teacher = Teacher(context.load_teacher(), context.frozen_dtype) if settings.has_teacher else None

    def modules(self) -> dict[str, nn.Module]:
        return {DISCRIMINATOR: self.heads}

    def frozen(self) -> list[nn.Module]:
        return [self.encoder, *([self.teacher.unet] if self.teacher is not None else [])]

    def phases(self, step: int) -> list[str]:
        if step < self.settings.discriminator_steps_first:
            return [DISCRIMINATOR]
        return [SHARED] if self.settings.updates == "shared" else [DISCRIMINATOR, GENERATOR]

    def trained_in(self, phase: str) -> list[str]:
        return [DISCRIMINATOR, GENERATOR] if phase == SHARED else [phase]

    def learning_rate(self, phase: str, default: float) -> float:
        return self.settings.heads_learning_rate if phase == DISCRIMINATOR else default

    def loss(self, phase: str, unet: Network, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        noised, level = self._noised(batch, draws)
        if phase == DISCRIMINATOR:
            with torch.no_grad():
                fake = self._features(denoise(unet, noised, level, batch.conditions), batch, draws)
            return self._heads_loss(fake, batch, draws)
        estimate = denoise(unet, noised, level, batch.conditions)
        fake = self._features(estimate, batch, draws)
        loss, figures = self._generator_loss(estimate, noised, level, fake, batch)
        if phase == SHARED:
            heads_loss, heads_figures = self._heads_loss(fake.detach(), batch, draws)
            return loss + heads_loss, figures | heads_figures
        return loss, figures

    def _noised(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return x0 + s n, and s (B,) from the first points of the coarse grid."""
        x0 = batch.latents
        sigma = self.levels[draws.integers(len(self.levels))].to(x0.device)
        noise = draws.normal(*x0.shape[1:]).to(x0.device)
        return x0 + sigma[:, None, None, None, None] * noise, sigma

    def _features(self, x: Tensor, batch: Batch, draws: Draws) -> Features:
        """Add noise at new levels s' and encode."""
        sigma = self.grid[draws.choices(self.weights)].float().to(x.device)
        noise = draws.normal(*x.shape[1:]).to(x.device)
        maps = self.encoder(x + sigma[:, None, None, None, None] * noise, sigma, batch.conditions)
        return Features([each.float() for each in maps], sigma)

    def _heads_loss(self, fake: Features, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Hinge loss and R1 of the heads, on features of generated clips and of the real ones."""
        settings = self.settings
        with torch.no_grad():
            real = self._features(batch.latents, batch, draws)
        # the heads run in full precision: the penalty's second derivative loses too much in half
        with torch.autocast(batch.latents.device.type, enabled=False):

            def judge(maps: list[Tensor]) -> list[Tensor]:
                return self.heads(maps, batch.conditions, real.sigma)

            penalty = torch.zeros((), device=batch.latents.device)
            if settings.r1_weight > 0 and settings.r1_method == "gradient":
                real_logits, penalty = gradient_penalty(judge, real.maps)
            else:
                real_logits = judge(real.maps)
                if settings.r1_weight > 0:
                    noise = [_like(each, draws, batch.latents.shape[0]) for each in real.maps]
                    penalty = finite_difference_penalty(judge, real.maps, real_logits, noise, settings.r1_noise)
            fake_logits = self.heads(fake.maps, batch.conditions, fake.sigma)
            loss = torch.stack(
                [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real_logits, fake_logits, strict=True)]
            ).mean()
        figures = {
            "loss_d": loss.detach(),
            "r1": penalty.detach(),
            "real": torch.cat([r.detach().flatten() for r in real_logits]).mean(),
            "fake": torch.cat([f.detach().flatten() for f in fake_logits]).mean(),
        }
        for name, r, f in zip(self.heads.names, real_logits, fake_logits, strict=True):
            right = torch.cat([(r.detach() > 0).flatten(), (f.detach() < 0).flatten()])
            figures[f"accuracy/{name}"] = right.float().mean()
        return loss + settings.r1_weight * penalty, figures

    def _generator_loss(
        self, estimate: Tensor, noised: Tensor, level: Tensor, fake: Features, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(batch.latents.device.type, enabled=False), _fixed(self.heads):
            logits = self.heads(fake.maps, batch.conditions, fake.sigma)
            adversarial = -torch.stack([logit.mean() for logit in logits]).mean()
            reconstruction = pseudo_huber((estimate - batch.latents).float(), self.settings.huber_c).mean()
        figures = {"loss_g": adversarial.detach(), "huber": reconstruction.detach()}
        loss = adversarial + self.settings.huber_weight * reconstruction
        if self.teacher is not None:
            distance = self.teacher.distance(estimate, noised, level, batch.conditions)
            loss = loss + self.settings.distillation_weight * distance
            figures["teacher"] = distance.detach()
        return loss, figures


def _like(features: Tensor, draws: Draws, clips: int) -> Tensor:
    """Noise of unit variance of the shape of features (B*T, C, h, w) of `clips` clips."""
    frames, *rest = features.shape
    return draws.normal(frames // clips, *rest).reshape(features.shape).to(features.device)


@contextmanager
def _fixed(module: nn.Module) -> Iterator[None]:
    """Let nothing be recorded for the gradients of a module's own parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
