"""What a training tells while it runs, and the contract of those who are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from mobilevd.model.unet import SpatioTemporalUNet


@dataclass(frozen=True)
class Report:
    """The state of a training after a logged step.

    Attributes:
        step, steps: the step that is done, of how many.
        figures: losses, "learning_rate", "grad_norm/PHASE", "accuracy/HEAD", ... by name; a slash makes a group of them.
        clips_per_s: clips trained on per second, by all processes together.
        seconds_per_step: the same as time, validations and checkpoints left out.
        seconds_left: until the last step, with the validations and checkpoints that are to come.
        memory_mb: peak of this process: of its GPU where it has one, else of the process.
        tflops: achieved TFLOP/s of each process; None where the step's FLOPs are not counted.
        mfu: share of the GPU's peak that this is; None on a CPU, or a GPU whose peak is not known.
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


@dataclass(frozen=True)
class ShownClips:
    """The clips of a validation, as files and as pixels.

    Attributes:
        video, sheet: mp4 file and contact sheet (PNG).
        frames: uint8 (T, H, W, 3), the video's.
        fps: its frames per second.
        pictures: further pictures (PNG) by name, such as the map of the gates.
        text: lines that say the same in a log file; may be empty.
    """

    video: Path
    sheet: Path
    frames: np.ndarray
    fps: float
    pictures: dict[str, Path] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Validation:
    """The outcome of a validation.

    Attributes:
        figures: "distance" with "distance_low" and "distance_high", "motion_ratio", ...; the same in all processes.
        clips: what the main process wrote; None in the others.
    """

    figures: dict[str, float]
    clips: ShownClips | None = None


Validator = Callable[[int, SpatioTemporalUNet], Validation]
"""A validation after a step, of a model with its averaged weights in evaluation mode; all processes call it together."""


class Observer(Protocol):
    """Whoever is told of a training by its main process."""

    def logged(self, report: Report) -> None:
        """A logged step."""
        ...

    def validated(self, step: int, figures: dict[str, float], clips: ShownClips | None) -> None:
        """A validation after a step."""
        ...

    def close(self) -> None:
        """The end of the training, by its last step or by an error."""
        ...


class Observers:
    """Several observers as one, told in their order; none at first where they are only known later."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = list(observers)

    def add(self, observer: Observer) -> None:
        """Tell one more from now on."""
        self._observers.append(observer)

    def logged(self, report: Report) -> None:
        for observer in self._observers:
            observer.logged(report)

    def validated(self, step: int, figures: dict[str, float], clips: ShownClips | None) -> None:
        for observer in self._observers:
            observer.validated(step, figures, clips)

    def close(self) -> None:
        for observer in self._observers:
            observer.close()
