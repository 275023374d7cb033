"""Motion magnitude and ratio, by hand."""

import numpy as np
import pytest

from eval.motion import motion_magnitude, motion_ratio
from mobilevd.errors import UserError


def test_magnitude_by_hand() -> None:
    clips = np.zeros((2, 3, 4, 4, 3), np.uint8)
    clips[0, 1] = 255  # black, white, black: every step is a full change; the other clip stands still
    assert motion_magnitude(clips) == pytest.approx(0.5)
    clips[0, 1] = 51
    assert motion_magnitude(clips) == pytest.approx(0.1)


def test_ratio() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 100, size=(3, 4, 8, 8, 3), dtype=np.uint8)
    assert motion_ratio(2 * real, real) == pytest.approx(2)
    assert motion_ratio(real[:, ::-1], real) == pytest.approx(1)  # falling changes count as rising ones
    assert motion_ratio(np.repeat(real[:, :1], 4, axis=1), real) == 0


def test_bad_input() -> None:
    still = np.zeros((1, 4, 8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="do not move at all"):
        motion_ratio(still, still)
    with pytest.raises(UserError, match="at least 2 frames"):
        motion_magnitude(still[:, :1])
    with pytest.raises(UserError, match="uint8"):
        motion_magnitude(still.astype(np.float32))
