"""Shots by PySceneDetect."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from training.data.index.detection import ADAPTIVE_THRESHOLD, MAX_REPEATS, MIN_CONTENT, MIN_SHOT_FRAMES, SAME


class AdaptiveShots:
    """PySceneDetect's AdaptiveDetector: frames that differ in HSV far more than those around them differ.

    Where a slower video repeats its frames, every new one would differ so, and be a cut. So the detector is not shown a
    frame that repeats the one before, but up to `MAX_REPEATS` in a row: pictures that stand longer are shots.
    """

    def __init__(self) -> None:
        import cv2
        from scenedetect.detectors import AdaptiveDetector

        cv2.setNumThreads(1)  # pictures so small are not worth more, and every process has its core
        self._detector = AdaptiveDetector(ADAPTIVE_THRESHOLD, MIN_SHOT_FRAMES, min_content_val=MIN_CONTENT)
        self._count, self._repeats = 0, 0
        self._last: np.ndarray | None = None
        self._shown: list[int] = []  # numbers of the frames that the detector saw
        self._cuts: set[int] = set()

    def add(self, frame: np.ndarray) -> None:
        from scenedetect.common import FrameTimecode

        number, self._count = self._count, self._count + 1
        repeats = self._last is not None and np.abs(np.subtract(frame, self._last, dtype=np.int16)).mean() < SAME
        self._last, self._repeats = frame, self._repeats + 1 if repeats else 0
        if 0 < self._repeats <= MAX_REPEATS:
            return
        time = FrameTimecode(len(self._shown), 25.0)  # the detector counts frames, whatever their rate
        self._shown.append(number)
        bgr = np.ascontiguousarray(frame[..., ::-1])
        self._cuts.update(int(cut.frame_num) for cut in self._detector.process_frame(time, bgr))

    def finish(self) -> list[tuple[int, int]]:
        if not self._count:
            return []
        edges = [0, *(self._shown[cut] for cut in sorted(self._cuts - {0})), self._count]
        return [(first, end - 1) for first, end in pairwise(edges)]
