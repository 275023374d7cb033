"""The state of a training that its observers are told."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The state of a training after a step that is logged.

    Attributes:
        step, steps: optimizer steps done, and in all.
        figures: losses, gradient norms, accuracies of heads and the like, by name.
        clips_per_s: clips trained on per second, over all processes together.
        seconds_per_step: of an optimizer step.
        seconds_left: to the last step, at this rate.
        memory_mb: peak memory of this process or its GPU.
        tflops: TFLOP/s achieved per process; None where a step's FLOPs are not known.
        mfu: share of the GPU's peak; None on a CPU or an unknown GPU.
    """

    step: int
    steps: int
    figures: dict[str, float]
    clips_per_s: float
    seconds_per_step: float
    seconds_left: float
    memory_mb: float
    tflops: float | None = None
    mfu: float | None = None


@dataclass
class Validation:
    """The outcome of a validation, the same in all processes; `distance` among the figures chooses the best."""

    figures: dict[str, float] = field(default_factory=dict)
