"""The options of `mobilevd evaluate`, checked before any work. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mobilevd.errors import UserError

METRICS = ("distance", "motion", "psnr", "ssim", "lpips", "fid", "warping", "flicker")
PAIRED = ("psnr", "ssim", "lpips")
"""Metrics of a clip against the reference's clip of the same name."""
MOST_PIXELS = 36_000_000


@dataclass(frozen=True)
class EvaluateSettings:
    """What is compared, and how.

    Attributes:
        metrics: names of `METRICS`.
        protocols: names or files of protocols, each of which gives a distance (`eval.protocol_settings`); where there are
            none, `features` names one with its weights, as a run's `evaluation.features` does.
        weights: file of the protocols' networks, or folder that has them by their published names.
        num_frames, fps, size: form of the compared clips; None takes that of the first readable generated video. `size`
            is (height, width).
        per_video: clips of a video, at the most; None: all that do not overlap.
        sampling: "first" or "random".
        max_broken: unreadable videos of a folder that are put up with: a share if it is below 1, else a number.
        paired: clips must pair by their names; None: they are paired if every generated one has a reference.
    """

    metrics: tuple[str, ...] = ("distance", "motion")
    protocols: tuple[str, ...] = ()
    weights: Path | None = None
    features: str = "motion"
    num_frames: int | None = None
    fps: float | None = None
    size: tuple[int, int] | None = None
    per_video: int | None = 1
    sampling: str = "first"
    seed: int = 0
    max_broken: float = 0.1
    paired: bool = False
    device: str = "auto"
    batch_size: int = 8
    fid_network: str | None = None
    lpips_weights: Path | None = None
    trusted: str | None = None
    trusted_fid: str | None = None

    def check(self) -> None:
        """Raise UserError for values that cannot be right."""
        for wrong, message in (
            (self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0), f"--fps {self.fps}: above 0"),
            (self.num_frames is not None and self.num_frames < 2, f"--num-frames {self.num_frames}: 2 or more"),
            (
                self.per_video is not None and self.per_video < 1,
                f"--clips-per-video {self.per_video}: 1 or more, or all",
            ),
            (self.sampling not in ("first", "random"), f"--sampling {self.sampling}: first or random"),
            (bool(self.weights) and not self.protocols, "--weights: also --protocol NAME, whose network they are"),
            (self.seed < 0, f"--seed {self.seed}: 0 or more"),
            (self.batch_size < 1, f"--batch-size {self.batch_size}: 1 or more"),
            (self.device not in ("auto", "cpu", "cuda", "mps"), f"--device {self.device}: auto, cpu, cuda or mps"),
            (
                "fid" in self.metrics and not self.fid_network,
                "--metrics fid: also --fid-network FILE (none is shipped)",
            ),
        ):
            if wrong:
                raise UserError(f"{message} is wanted" if "also" not in message else message)

    def allowed_broken(self, videos: int) -> int:
        """How many videos of a folder may be unreadable; of a small folder, one always."""
        if 0 < self.max_broken < 1:
            return max(1, int(self.max_broken * videos))
        return int(self.max_broken)


def parse_metrics(text: str) -> tuple[str, ...]:
    """Names with commas between them, without repetition."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in METRICS:
            near = get_close_matches(name, METRICS, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"--metrics {name}: unknown{meant} (there are {', '.join(METRICS)})")
    if not names:
        raise UserError(f"--metrics: at least one of {', '.join(METRICS)} is wanted")
    return tuple(dict.fromkeys(names))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of "320x240", which is width x height."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(width, height) < 2 or width * height > MOST_PIXELS:
        raise UserError(f"--size {text}: WIDTHxHEIGHT in pixels is wanted, such as 320x240")
    return height, width


def parse_per_video(text: str) -> int | None:
    """A number of clips, or None for "all"."""
    if text.strip().lower() == "all":
        return None
    if not re.fullmatch(r"\d{1,9}", text.strip()) or int(text) < 1:
        raise UserError(f"--clips-per-video {text}: a number from 1 on, or all, is wanted")
    return int(text)


def parse_max_broken(text: str) -> float:
    """A number of videos, or a share such as "10%", as `EvaluateSettings.max_broken` has them."""
    match = re.fullmatch(r"(\d{1,9})(%?)", text.strip())
    if not match or (match[2] and int(match[1]) > 100):
        raise UserError(
            f"--max-broken {text}: a number of videos, such as 3, or a share of them, such as 10%, is wanted"
        )
    if match[2]:
        return min(int(match[1]) / 100, math.nextafter(1, 0))
    return float(match[1])


def joined(reasons: Sequence[str], shown: int = 3) -> str:
    """The first few reasons, and how many more there are."""
    more = f"; and {len(reasons) - shown} more" if len(reasons) > shown else ""
    return "; ".join(reasons[:shown]) + more
