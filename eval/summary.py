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
) -> ClipSummary:
    """Summarize clips, uint8 (N, T, H, W, 3). UserError for another form or fewer than 2 frames."""
    check_clips(clips, min_frames=2, what=what)
    return ClipSummary(extractor(clips), clip_values(clips), form_of(clips), first_frame or {})


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
