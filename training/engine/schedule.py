"""The learning rate over a stage."""

from __future__ import annotations

import math

from mobilevd.config.training import TrainingSettings


def rate_factor(settings: TrainingSettings, step: int) -> float:
    """Factor on the learning rate: linear warm-up, then constant or a cosine down to a hundredth."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
