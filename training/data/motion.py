"""How much a real clip moves: what tells a still screen, or a file of one picture per second, from a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.motion import motion_magnitude

HEIGHT, WIDTH = 36, 64
"""Size at which motion is measured, whatever the run's; coding noise is averaged away at it."""
SAME = 1  # grey level; by which rounding differs where nothing moved
LUMA = np.array([0.2126, 0.7152, 0.0722])  # BT.709, table 3: weights of R, G, B
MIDDLE_BUCKET, LAST_BUCKET = 127, 255  # SVD's default in sampling, and the largest that its users give
KNOTS = 33  # quantiles 0, 1/32, ..., 1


@dataclass(frozen=True, slots=True)
class ClipMotion:
    """Motion of a clip.

    Attributes:
        magnitude: mean absolute change from frame to frame, with white as 1 (`eval.motion`).
        repeated: share of the frames after the first that show what the frame before showed, from 0 to 1.
    """

    magnitude: float
    repeated: float


def motion_of(frames: np.ndarray) -> ClipMotion:
    """Measure uint8 frames (T, H, W, 3), T >= 2, read at `HEIGHT` x `WIDTH`."""
    changes = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(axis=(1, 2, 3))  # (T - 1,)
    return ClipMotion(motion_magnitude(frames[None]), float((changes <= SAME).mean()))


def brightness_of(frames: np.ndarray) -> float:
    """Mean luma of uint8 frames (..., 3), with white as 1."""
    return float(frames.reshape(-1, 3).mean(axis=0) @ LUMA / 255)


@dataclass(frozen=True)
class MotionBuckets:
    """SVD's conditioning on motion, 0 to 255, of a motion magnitude: its rank among the training clips.

    The clip that moves least gets 0, the median clip 127, which is SVD's default in sampling, and the one that moves most
    255; linear between quantiles, so that every amount of motion is trained as often as every other. SVD's own scale was
    not published: this one is ours.

    Attributes:
        magnitudes: rising knots.
        buckets: their buckets.
    """

    magnitudes: tuple[float, ...]
    buckets: tuple[float, ...]

    @classmethod
    def fit(cls, magnitudes: Sequence[float] | np.ndarray) -> MotionBuckets:
        """The scale of clips with these magnitudes (at least one); it does not depend on their order."""
        shares = np.linspace(0, 1, KNOTS)
        knots = np.quantile(np.asarray(magnitudes, dtype=np.float64), shares)
        buckets = np.interp(shares, [0, 0.5, 1], [0, MIDDLE_BUCKET, LAST_BUCKET])
        # clips that move equally much, still ones above all, share the middle of their ranks
        different, of_knot = np.unique(knots, return_inverse=True)
        shared = [float(buckets[of_knot == knot].mean()) for knot in range(len(different))]
        return cls(tuple(different.tolist()), tuple(shared))

    def bucket(self, magnitude: float) -> float:
        """The bucket of a clip; of what moves more or less than all knots, the last or the first."""
        return float(np.interp(magnitude, self.magnitudes, self.buckets))

    def to_json(self) -> dict[str, list[float]]:
        return {"magnitudes": list(self.magnitudes), "buckets": list(self.buckets)}

    @classmethod
    def from_json(cls, value: dict[str, list[float]]) -> MotionBuckets:
        """What `to_json` gave. ValueError for anything else."""
        try:
            magnitudes, buckets = (tuple(map(float, value[key])) for key in ("magnitudes", "buckets"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no scale of motion buckets ({error!r})") from None
        if not magnitudes or len(magnitudes) != len(buckets) or not np.all(np.diff(magnitudes) > 0):
            raise ValueError("no scale of motion buckets (as many rising magnitudes as buckets are needed)")
        return cls(magnitudes, buckets)
