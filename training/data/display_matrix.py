"""The display matrix of a video: how a player turns and mirrors the stored picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData


class UnknownMatrix(ValueError):
    """The error for a picture that is turned by no multiple of 90 degrees."""


Turn = tuple[int, int, int, int]
"""a, b, c, d of x' = a x + c y, y' = b x + d y, each -1, 0 or 1: x to the right and y downwards."""
UPRIGHT: Turn = (1, 0, 0, 1)


def turn_of(frame: av.VideoFrame) -> Turn:
    """How the frame is to be turned, by its side data; `UPRIGHT` without any."""
    data = cast(Mapping[Any, Any], frame.side_data).get(SideData.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), "<i4", count=9).astype(float) / 65536  # 16.16, as in ISO 14496-12
    largest = max(abs(value) for value in (a, b, c, d))
    if largest == 0:
        return UPRIGHT  # an empty matrix says nothing
    parts = tuple(value / largest for value in (a, b, c, d))
    turn: Turn = tuple(int(np.sign(part)) if abs(part) > 0.05 else 0 for part in parts)  # type: ignore[assignment]
    if (turn[0] == 0) != (turn[3] == 0) or (turn[1] == 0) != (turn[2] == 0) or bool(turn[0]) == bool(turn[1]):
        raise UnknownMatrix("its display matrix turns the picture by an angle that is no multiple of 90 degrees")
    return turn


def swaps_sides(turn: Turn) -> bool:
    """True if rows become columns."""
    return turn[0] == 0


def turned(pixels: np.ndarray, turn: Turn) -> np.ndarray:
    """Pixels (H, W, C) as they are shown."""
    a, b, c, d = turn
    if swaps_sides(turn):
        pixels = pixels.swapaxes(0, 1)  # x' is along y, so its sign is c; y' along x, with b
        a, d = c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
