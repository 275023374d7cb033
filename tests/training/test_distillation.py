"""Distilling one one-step generator into another."""

import copy
from pathlib import Path

import pytest
import torch

from mobilevd.config.objectives import DistillationSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.diffusion.sampling import generate_one_step
from mobilevd.model.unet import SpatioTemporalUNet
from tests.training.helpers import EMBEDDING, draw, small_unet, source, train_settings
from training.data.draws import Draws
from training.loop import Trainer
from training.objectives.base import TrainingContext
from training.objectives.distillation import Distillation

SIGMA = 700.0


def distillation(teacher: SpatioTemporalUNet) -> Distillation:
    context = TrainingContext(DiffusionSettings(sigma_max=SIGMA), EMBEDDING, load_teacher=lambda: teacher)
    return Distillation(DistillationSettings(), context)


def disturbed(unet: SpatioTemporalUNet, by: float) -> SpatioTemporalUNet:
    other = copy.deepcopy(unet)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(by * parameter.abs().mean() * torch.randn_like(parameter))
    return other


def test_the_loss_is_the_squared_distance_of_the_outputs_on_the_same_noise() -> None:
    teacher = small_unet()
    student = disturbed(teacher, 0.3)
    objective = distillation(copy.deepcopy(teacher))
    batch, _ = draw()
    noise = Draws(1, 0, 0, range(2)).normal(*batch.latents.shape[1:])
    assert objective.loss("generator", teacher, batch, Draws(1, 0, 0, range(2)))[1]["loss"] < 1e-10
    both = [generate_one_step(unet, noise, SIGMA, batch.conditions) for unet in (student, teacher)]
    loss, figures = objective.loss("generator", student, batch, Draws(1, 0, 0, range(2)))
    assert float(loss.detach()) == pytest.approx(float((both[0] - both[1]).pow(2).mean()), rel=1e-5)
    assert figures["loss"] == pytest.approx(float(loss.detach()))


def test_only_the_student_learns() -> None:
    objective = distillation(small_unet())
    student = disturbed(small_unet(), 0.1).train()
    loss, _ = objective.loss("generator", student, *draw())
    loss.backward()
    assert float(student.conv_in.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.unet.parameters())
    assert not objective.teacher.unet.training


def test_a_disturbed_student_comes_back_to_its_teacher(tmp_path: Path) -> None:
    teacher = small_unet()
    student = disturbed(teacher, 0.3)
    objective = distillation(teacher)
    settings = train_settings(steps=40, learning_rate=3e-4, ema_decay=0.0)
    losses: list[float] = []
    trainer = Trainer(student, objective, (), source(), settings, tmp_path, seed=3)
    trainer.run(lambda report: losses.append(report.figures["loss"]))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
