"""Where a video cuts from one shot to another."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from training.data.index.detection import Detection


class ShotDetector(Protocol):
    """Finds the shots of one video from its frames, in order."""

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame: uint8 (H, W, 3), RGB, of the same size as the others."""
        ...

    def finish(self) -> list[tuple[int, int]]:
        """Numbers of the first and the last frame of every shot. Frames inside a transition are in none."""
        ...


class OneShot:
    """The detector that takes every video for one shot."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        self._count += 1

    def finish(self) -> list[tuple[int, int]]:
        return [(0, self._count - 1)] if self._count else []


def open_detector(detection: Detection) -> ShotDetector:
    """A detector for one video."""
    if detection == "transnetv2":
        from training.data.index.transnet import TransNetShots

        return TransNetShots()
    if detection == "pyscenedetect":
        from training.data.index.adaptive import AdaptiveShots

        return AdaptiveShots()
    return OneShot()
