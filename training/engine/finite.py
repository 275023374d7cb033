"""Turns whose loss or gradient was not finite: counted without waiting for the device, and too many are an end."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mobilevd.config.training import TrainingSettings
from mobilevd.errors import UserError
from training.engine.progress import Progress

MAX_SKIPPED_IN_A_ROW = 20  # this many steps of a phase without a finite loss are no accident


class NonFiniteTurns:
    """Flags of turns, on the device, until `settle` looks at them."""

    def __init__(self, progress: Progress, settings: TrainingSettings, folder: Path) -> None:
        self.progress, self.settings, self.folder = progress, settings, folder
        self.waiting: list[tuple[int, str, Tensor]] = []

    def note(self, step: int, phase: str, bad: Tensor) -> None:
        """Note that a turn was taken, and whether it was `bad` (a scalar, 0 or 1)."""
        self.waiting.append((step, phase, bad.detach().float()))

    def settle(self) -> None:
        """Count what was noted. UserError for a phase that had no finite turn for long."""
        if not self.waiting:
            return
        flags = torch.stack([bad for _, _, bad in self.waiting]).tolist()
        waiting, self.waiting = self.waiting, []
        for (step, phase, _), bad in zip(waiting, flags, strict=True):
            self._count(step, phase, bool(bad))

    def _count(self, step: int, phase: str, bad: bool) -> None:
        if not bad:
            self.progress.skipped_in_a_row[phase] = 0
            return
        self.progress.skipped += 1
        in_a_row = self.progress.skipped_in_a_row.get(phase, 0) + 1
        self.progress.skipped_in_a_row[phase] = in_a_row
        if in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise UserError(
                f"{self.folder}: the {phase}'s loss or gradient was not finite in {in_a_row} steps in a row, the last at "
                f"step {step}; lower training.learning_rate (now {self.settings.learning_rate:g}) or use "
                "training.mixed_precision=no. The last checkpoint is from before, and is kept"
            )
