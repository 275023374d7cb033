"""How far a training is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """The progress of a training, as its checkpoints record it.

    Attributes:
        step: optimizer steps done.
        skipped: turns passed over because a loss or gradient was not finite.
        skipped_in_a_row: the same for each phase, without a good turn of that phase since.
        plan: fingerprint of what is trained and how; another plan does not continue this checkpoint.
        machinery: settings and number of processes that may change, though the bits then do.
        best_step, best_distance: the validation with the lowest distance so far; None before the first.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: dict[str, int] = field(default_factory=dict)
    plan: str = ""
    machinery: dict[str, Any] = field(default_factory=dict)
    best_step: int | None = None
    best_distance: float | None = None
