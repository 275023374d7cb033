"""The warping error: how much a clip changes along its motion (Lai et al. 2018, "Learning blind video temporal
consistency", section 4.2)."""

from __future__ import annotations

import numpy as np

from eval.frames.flow import ClipFlow, warp


def warping_error(clip: np.ndarray, flow: ClipFlow) -> float:
    """E_warp of a uint8 clip (T, H, W, 3): the mean over t of `sum M |V_t - warp(V_t+1)|^2 / sum M`, with white as 1.

    M are the pixels that `flow` can follow. The square is the mean over the colours. The flow is that of the reference
    clip where there is one, else of the clip itself. A pair of frames in which nothing can be followed does not count;
    NaN if that is so of all.
    """
    errors = []
    for t, (step, seen) in enumerate(zip(flow.to_next, flow.seen_next, strict=True)):
        if seen.any():
            change = (warp(clip[t + 1], step) - clip[t])[seen] / 255
            errors.append(float(np.mean(change**2, dtype=np.float64)))
    return float(np.mean(errors)) if errors else float("nan")
