"""Sets of clips gathered from a stream: features and a few numbers of each, in memory that pixels do not add to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.features import FeatureExtractor
from eval.frames.fid import FrameStatistics
from eval.frames.network import FrameNetwork
from mobilevd.errors import UserError

Extractors = Sequence[tuple[str, FeatureExtractor]]
"""The distances that are computed, each with its name: every loop over features goes over these."""
Arrays = dict[str, np.ndarray]
FRAMES = "frames"  # key of the features of the frames, beside the names of extractors


@dataclass(frozen=True)
class StreamedClip:
    """A clip of a stream.

    Attributes:
        name: as results name it.
        pixels: uint8 (T, H, W, 3), or None if `features` has all that is wanted.
        values: figures of the clip by name; NaN where there is none.
        features: what an earlier start kept of it: the name of an extractor -> (D,), `FRAMES` -> (T, D).
        key: key that new features are kept under; None: they are not.
    """

    name: str
    pixels: np.ndarray | None
    values: Mapping[str, float]
    features: Arrays | None = None
    key: str | None = None


@dataclass
class GatheredClips:
    """N clips: their names, figures and features, and the statistics of their frames."""

    names: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    features: dict[str, list[np.ndarray]] = field(default_factory=dict)
    frames: FrameStatistics | None = None

    def __len__(self) -> int:
        return len(self.names)

    def features_of(self, name: str) -> np.ndarray:
        """Features (N, D) of the extractor of this name."""
        return np.stack(self.features[name])

    def values_of(self, key: str) -> np.ndarray:
        """A figure of all clips (N,)."""
        return np.array(self.values[key], dtype=np.float64)


def gather(
    clips: Iterable[StreamedClip],
    extractors: Extractors,
    network: FrameNetwork | None = None,
    batch_size: int = 8,
    keep: Callable[[str, Arrays, Mapping[str, float]], None] | None = None,
) -> GatheredClips:
    """Gather a stream of clips in its order; `batch_size` of them are in memory at once, and their features computed.

    `keep(key, features, values)` is called for what was computed. UserError names a clip whose features are no numbers.
    """
    gathered = GatheredClips(frames=FrameStatistics() if network is not None else None)
    waiting: list[StreamedClip] = []

    def work_off() -> None:
        unknown = [clip for clip in waiting if clip.features is None]
        computed = iter(_features_of(unknown, extractors, network))
        for clip in waiting:
            features = clip.features if clip.features is not None else next(computed)
            if clip.features is None and keep is not None and clip.key is not None:
                keep(clip.key, features, clip.values)
            gathered.names.append(clip.name)
            for key, value in clip.values.items():
                gathered.values.setdefault(key, []).append(value)
            for name, _ in extractors:
                gathered.features.setdefault(name, []).append(features[name])
            if gathered.frames is not None:
                gathered.frames.add(features[FRAMES])
        waiting.clear()

    for clip in clips:
        waiting.append(clip)
        if len(waiting) >= batch_size:
            work_off()
    work_off()
    return gathered


def _features_of(clips: list[StreamedClip], extractors: Extractors, network: FrameNetwork | None) -> list[Arrays]:
    """All features of each clip."""
    if not clips:
        return []
    pixels = np.stack([clip.pixels for clip in clips if clip.pixels is not None])  # (n, T, H, W, 3)
    columns = {name: extractor(pixels) for name, extractor in extractors}
    if network is not None:
        features = network(pixels.reshape(-1, *pixels.shape[2:])).astype(np.float32)
        columns[FRAMES] = features.reshape(*pixels.shape[:2], -1)
    for name, column in columns.items():
        for clip, values in zip(clips, column, strict=True):
            if not np.isfinite(values).all():
                raise UserError(f"{clip.name}: its features of {name} are no numbers (NaN or infinity)")
    return [{name: column[i] for name, column in columns.items()} for i in range(len(clips))]
