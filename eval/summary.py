"""What is kept of clips once their pixels are let go: features, and a few numbers per clip.

Sets of thousands of clips are compared in constant memory: read or generated a few at a time, summarized, joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.clips import check_clips, describe_form, form_of
from eval.features import FeatureExtractor
from eval.figures import clip_values
from mobilevd.errors import UserError


@dataclass(frozen=True)
class ClipSummary:
    """A summary of N clips.

    Attributes:
        features: float64 (N, D).
        values: key of a figure -> (N,) its value of each clip (`eval.figures.clip_values`).
        form: frames, height and width of the clips.
        first_frame: "psnr_db" and "ssim" (N,) against the conditioning frames; empty where there are none.
    """

    features: np.ndarray
    values: dict[str, np.ndarray]
    form: tuple[int, int, int]
    first_frame: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)


def summarize(
    clips: np.ndarray,
    extractor: FeatureExtractor,
    first_frame: dict[str, np.ndarray] | None = None,
    what: str = "clips",
    names: Sequence[str] | None = None,
) -> ClipSummary:
    """Summarize clips, uint8 (N, T, H, W, 3), which errors call by `names`, or by their number among these.

    UserError for another form, fewer than 2 frames, and features that are no numbers.
    """
    check_clips(clips, min_frames=2, what=what)
    features = extractor(clips)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        first = names[bad[0]] if names is not None else f"clip {bad[0] + 1} of {len(clips)}"
        more = f"; {len(bad) - 1} more of these {len(clips)} too" if len(bad) > 1 else ""
        raise UserError(f"{what}: {first}: its features of {extractor.distance_name} are NaN or infinite{more}")
    return ClipSummary(features, clip_values(clips), form_of(clips), first_frame or {})


def join_summaries(parts: Sequence[ClipSummary], what: str = "clips") -> ClipSummary:
    """One summary of the clips of all parts, in order. UserError if they differ in frames or size."""
    first = parts[0]
    for part in parts:
        if part.form != first.form:
            raise UserError(
                f"{what}: some are {describe_form(first.form)}, others {describe_form(part.form)}: make them the same"
            )
    return ClipSummary(
        np.concatenate([part.features for part in parts]),
        {key: np.concatenate([part.values[key] for part in parts]) for key in first.values},
        first.form,
        {key: np.concatenate([part.first_frame[key] for part in parts]) for key in first.first_frame},
    )
