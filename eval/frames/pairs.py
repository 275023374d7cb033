"""The form of two clips that are compared frame by frame."""

from __future__ import annotations

import numpy as np

from mobilevd.errors import UserError


def check_pair(a: np.ndarray, b: np.ndarray, what: str, min_size: int = 1) -> None:
    """Raise UserError unless both are uint8 (T, H, W, 3) of one shape, with sides of at least `min_size` pixels."""
    if a.shape != b.shape or a.ndim != 4 or a.shape[-1] != 3 or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise UserError(
            f"{what}: two uint8 clips (T, H, W, 3) of one shape, got {a.dtype} {a.shape}, {b.dtype} {b.shape}"
        )
    if min(a.shape[1:3]) < min_size:
        raise UserError(
            f"{what}: frames of at least {min_size} pixels a side are needed, got {a.shape[2]}x{a.shape[1]}"
        )
