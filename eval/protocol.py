"""One evaluation of generated against reference clips, and everything of the procedure that changes the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.clips import describe_form
from eval.distances.frechet import frechet_distance
from eval.features import FeatureExtractor
from eval.figures import combine_figures
from eval.frames.psnr import frame_psnrs
from eval.frames.ssim import frame_ssims
from eval.summary import ClipSummary, summarize
from mobilevd.errors import UserError


def first_frame_fidelities(generated: np.ndarray, conditions: np.ndarray) -> dict[str, np.ndarray]:
    """The fidelity of frame 0 of clips (N, T, H, W, 3) to the conditioning frames (N, H, W, 3), both uint8: (N,) each.

    PSNR (dB, peak 255) and SSIM (11x11 Gaussian window of deviation 1.5, as Wang et al. 2004) of each clip.
    """
    if conditions.dtype != np.uint8 or conditions.shape != generated[:, 0].shape:
        raise UserError(
            f"conditioning frames: uint8 {generated[:, 0].shape} wanted, got {conditions.dtype} {conditions.shape}"
        )
    first = generated[:, 0]
    return {"psnr_db": frame_psnrs(first, conditions), "ssim": frame_ssims(first, conditions)}


def first_frame_fidelity(generated: np.ndarray, conditions: np.ndarray) -> dict[str, float]:
    """The mean over clips of `first_frame_fidelities`."""
    return _means(first_frame_fidelities(generated, conditions))


def _means(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {key: float(value.mean()) for key, value in values.items()}


def evaluate_summaries(
    generated: ClipSummary,
    reference: ClipSummary,
    extractor: FeatureExtractor,
    *,
    fps: float | None = None,
) -> dict[str, Any]:
    """Frechet distance, figures and protocol of generated against reference clips; the figures are those of `eval.figures`.

    Raises UserError if the sets differ in frames or size: a distance between clips of two lengths would compare the
    lengths.
    """
    if generated.form != reference.form:
        ours, theirs = describe_form(generated.form), describe_form(reference.form)
        raise UserError(f"generated clips are {ours} and reference clips {theirs}: make them the same")
    frames, height, width = generated.form
    result: dict[str, Any] = {
        "distance": frechet_distance(generated.features, reference.features, extractor.ddof),
        "distance_name": extractor.distance_name,
        "extractor": extractor.name,
        **combine_figures(generated.values, reference.values),
        "protocol": {
            "generated_clips": len(generated),
            "reference_clips": len(reference),
            "covariance_over": "n" if extractor.ddof == 0 else "n - 1",
            "frames": frames,
            "height": height,
            "width": width,
            "fps": fps,
            **extractor.protocol,
        },
    }
    if generated.first_frame:
        result["first_frame"] = _means(generated.first_frame)
    return result


def evaluate_clips(
    generated: np.ndarray,
    reference: np.ndarray,
    extractor: FeatureExtractor,
    *,
    fps: float | None = None,
    conditions: np.ndarray | None = None,
) -> dict[str, Any]:
    """`evaluate_summaries` of clips that are in memory.

    `generated` is (N, T, H, W, 3), `reference` (M, T, H, W, 3), both uint8. `conditions` (N, H, W, 3), the frames that
    were animated, adds `first_frame` (PSNR and SSIM).
    """
    fidelities = None if conditions is None else first_frame_fidelities(generated, conditions)
    ours = summarize(generated, extractor, fidelities, what="generated clips")
    theirs = summarize(reference, extractor, what="reference clips")
    return evaluate_summaries(ours, theirs, extractor, fps=fps)
