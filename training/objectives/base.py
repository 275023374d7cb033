"""The contract between the training loop and its objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mobilevd.config.objectives import ObjectiveSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.diffusion.preconditioning import Network
from mobilevd.model.unet import SpatioTemporalUNet
from training.data.batch import Batch
from training.data.draws import Draws

GENERATOR = "generator"
"""The phase that trains the UNet."""


def _none_before() -> SpatioTemporalUNet:
    raise RuntimeError("this objective learns from an earlier model, and there is none")


@dataclass(frozen=True)
class TrainingContext:
    """The parts of the run that an objective may use, besides its own settings.

    Attributes:
        diffusion: noise levels of the run.
        embedding_dim: D of the image embeddings (B, 1, D).
        load_multi_step: function that loads the nearest earlier model that is sampled in many steps.
        load_teacher: function that loads the one-step model whose outputs are learned.
        frozen_dtype: type of the weights of models that are not trained.
    """

    diffusion: DiffusionSettings
    embedding_dim: int
    load_multi_step: Callable[[], SpatioTemporalUNet] = _none_before
    load_teacher: Callable[[], SpatioTemporalUNet] = _none_before
    frozen_dtype: torch.dtype = torch.float32


class Objective(ABC):
    """An objective: the loop's phases, their parameters and their losses; without state that a checkpoint would miss.

    An objective that trains the UNet alone, at the stage's learning rate, only defines `loss`.
    """

    settings_class: ClassVar[type[ObjectiveSettings]]
    """The settings (in `mobilevd/config/objectives.py`) that the objective takes and by which it is found."""

    @abstractmethod
    def __init__(self, settings: Any, context: TrainingContext) -> None:
        """`settings` is one of `settings_class`."""

    def modules(self) -> dict[str, nn.Module]:
        """Modules trained beside the UNet, by phase name; saved with the checkpoint and with the finished stage."""
        return {}

    def frozen(self) -> list[nn.Module]:
        """Modules that the losses use and nothing trains: an encoder, a teacher."""
        return []

    def phases(self, step: int) -> list[str]:
        """Names of the turns of training step `step`, in order: a pass of the clips and a step of optimizers each."""
        return [GENERATOR]

    def trained_in(self, phase: str) -> list[str]:
        """Names of the modules whose optimizers step in a phase's turn."""
        return [phase]

    @abstractmethod
    def loss(self, phase: str, unet: Network, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (scalar) of a phase on one micro-batch, and figures to show (detached scalars, on its device)."""

    def learning_rate(self, phase: str, default: float) -> float:
        """Learning rate of the phase's optimizer."""
        return default
