"""Optical flow between the frames of a clip, and which pixels can be followed by it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mobilevd.errors import UserError

MIN_SIZE = 16  # two of DIS's patches of 8 pixels


@dataclass(frozen=True)
class ClipFlow:
    """Flow in a clip of T frames, both ways; each list has T - 1 entries.

    Attributes:
        to_next: of frame t, where its pixels are in frame t + 1: float32 (H, W, 2), dx and dy in pixels.
        to_previous: of frame t + 1, where its pixels were in frame t.
        seen_next: of frame t, bool (H, W): the pixel can be found in frame t + 1.
        seen_previous: of frame t + 1: the pixel can be found in frame t.
    """

    to_next: list[np.ndarray]
    to_previous: list[np.ndarray]
    seen_next: list[np.ndarray]
    seen_previous: list[np.ndarray]


def clip_flow(clip: np.ndarray) -> ClipFlow:
    """Flow of a uint8 clip (T >= 2, H, W, 3) by OpenCV's DIS (Kroeger et al. 2016). UserError below 16 pixels a side."""
    if len(clip) < 2 or min(clip.shape[1:3]) < MIN_SIZE:
        raise UserError(
            f"optical flow: 2 frames of at least {MIN_SIZE} pixels a side are needed, got {len(clip)} of "
            f"{clip.shape[2]}x{clip.shape[1]}"
        )
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip]
    flow = ClipFlow([], [], [], [])
    for now, after in zip(grey[:-1], grey[1:], strict=True):
        there = method.calc(now, after, None)  # type: ignore[call-overload]  # its stubs want an array to begin with
        back = method.calc(after, now, None)  # type: ignore[call-overload]
        flow.to_next.append(there)
        flow.to_previous.append(back)
        flow.seen_next.append(followed(there, back))
        flow.seen_previous.append(followed(back, there))
    return flow


def warp(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The frame that `flow` (H, W, 2) leads to, fetched back: pixel x of the result is `frame` at x + flow(x), bilinear.

    Takes (H, W) or (H, W, C), uint8 or float32; returns float32. Beyond the border the nearest pixel counts.
    """
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    # remap rounds positions to 1/32 pixel; with uint8 it would also round the result
    return cv2.remap(
        frame.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def followed(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Pixels, bool (H, W), that a flow (H, W, 2) carries into the other frame and whose way back, found there, ends here.

    The tests are those of Ruder et al. 2016 (equations 5 and 6, after Sundaram et al. 2010), which Lai et al. 2018 use:
    `|w + w'|^2 <= 0.01 (|w|^2 + |w'|^2) + 0.5` against occlusion, `|grad u|^2 + |grad v|^2 <= 0.01 |w|^2 + 0.002` at the
    borders of what moves.
    """
    height, width = there.shape[:2]
    returned = warp(back, there)
    squared = (there**2).sum(axis=-1)
    consistent = ((there + returned) ** 2).sum(axis=-1) <= 0.01 * (squared + (returned**2).sum(axis=-1)) + 0.5
    down, right = np.gradient(there, axis=(0, 1))
    smooth = (down**2 + right**2).sum(axis=-1) <= 0.01 * squared + 0.002
    x, y = (np.arange(width) + there[..., 0], np.arange(height)[:, None] + there[..., 1])
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return consistent & smooth & inside
