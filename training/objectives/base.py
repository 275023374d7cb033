"""The contract between the training loop and what it trains with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mobilevd.unet import SpatioTemporalUNet
from training.batch import Batch


@dataclass
class Phase:
    """One optimizer's turn in a training step.

    Attributes:
        name: key of the optimizer and of the metrics' prefix.
        draws_gates: the turn runs the UNet with the transforms' random gates.
    """

    name: str
    draws_gates: bool


class Objective(Protocol):
    """Gives the loop its phases, their parameters and their losses; keeps no state that a checkpoint would miss."""

    def modules(self) -> dict[str, nn.Module]:
        """Modules trained beside the UNet, by phase name; saved with the checkpoint."""
        ...

    def phases(self, step: int) -> list[Phase]:
        """The turns of training step `step`, in order."""
        ...

    def loss(
        self, phase: str, unet: SpatioTemporalUNet, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss (scalar) of a phase on one micro-batch, and figures to show."""
        ...

    def learning_rate(self, phase: str, default: float) -> float:
        """Learning rate of the phase's optimizer."""
        ...


class GeneratorOnly:
    """The phases of an objective that trains the UNet and nothing beside it, at the stage's own learning rate."""

    def modules(self) -> dict[str, nn.Module]:
        return {}

    def phases(self, step: int) -> list[Phase]:
        return [Phase("generator", draws_gates=True)]

    def learning_rate(self, phase: str, default: float) -> float:
        return default
