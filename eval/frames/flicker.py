"""Flicker: changes to and fro along the motion, which a steady change of light is not."""

from __future__ import annotations

import numpy as np

from eval.frames.flow import ClipFlow, warp


def flicker(clip: np.ndarray, flow: ClipFlow) -> float:
    """Mean over t of `|V_t - (warp(V_t-1) + warp(V_t+1)) / 2|` of a uint8 clip (T >= 3, H, W, 3), with white as 1.

    Half the second difference along the way of each pixel that `flow` can follow both ways: 0 for a fade, however fast;
    the amplitude's double for a brightness that goes up and down by it from frame to frame. NaN if nothing can be
    followed, or for fewer than 3 frames. Noise and melting detail raise it, too. This definition is ours.
    """
    values = []
    for t in range(1, len(clip) - 1):
        seen = flow.seen_next[t] & flow.seen_previous[t - 1]
        if seen.any():
            around = (warp(clip[t - 1], flow.to_previous[t - 1]) + warp(clip[t + 1], flow.to_next[t])) / 2
            values.append(float(np.mean(np.abs(around - clip[t])[seen], dtype=np.float64)) / 255)
    return float(np.mean(values)) if values else float("nan")
