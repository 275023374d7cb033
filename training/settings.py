"""The settings that the training loop reads: what a stage's `training` section, or any object like it, must have."""

from __future__ import annotations

from typing import Protocol


class Settings(Protocol):
    """Read-only, so that the checked configuration (`mobilevd.config`, which says what each means) fits as it is."""

    @property
    def steps(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def gradient_accumulation(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def schedule(self) -> str: ...

    @property
    def betas(self) -> tuple[float, float]: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def ema_decay(self) -> float: ...

    @property
    def mixed_precision(self) -> str: ...

    @property
    def gradient_checkpointing(self) -> bool: ...

    @property
    def max_grad_norm(self) -> float: ...

    @property
    def warmup_steps(self) -> int: ...

    @property
    def checkpoint_every(self) -> int: ...

    @property
    def log_every(self) -> int: ...
