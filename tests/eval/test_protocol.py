"""One evaluation: its figures, and its protocol."""

import math

import numpy as np
import pytest

from eval import frechet_distance
from eval.frames.psnr import MAX_PSNR_DB
from eval.protocol import evaluate_clips, first_frame_fidelity
from mobilevd.errors import UserError


class MeanColour:
    """Three features: the mean colour of a clip."""

    name = "mean-colour"
    distance_name = "FD-colour"
    ddof = 1
    sha256 = "0" * 64
    protocol = {"extractor": name, "feature_dim": 3, "resize": "none"}

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        return clips.astype(np.float64).mean((1, 2, 3))


def clips(count: int, seed: int, frames: int = 4) -> np.ndarray:
    """Pictures of noise, each frame of one grey level brighter than another: so they move."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 56, size=(count, frames, 16, 24, 3), dtype=np.uint8)
    return noise + rng.integers(0, 200, size=(count, frames, 1, 1, 1), dtype=np.uint8)


def test_figures_and_protocol() -> None:
    generated, reference = clips(5, 0), clips(7, 1)
    result = evaluate_clips(generated, reference, MeanColour(), fps=7)
    expected = frechet_distance(MeanColour()(generated), MeanColour()(reference))
    assert result["distance"] == expected
    assert result["distance_name"] == "FD-colour" and result["extractor"] == "mean-colour"
    motions = [np.abs(np.diff(x.mean((2, 3, 4)), axis=1)).mean() for x in (generated, reference)]  # flat, but for noise
    assert result["motion_ratio"] == pytest.approx(motions[0] / motions[1], rel=0.02)
    assert result["protocol"] == {
        "generated_clips": 5,
        "reference_clips": 7,
        "covariance_over": "n - 1",
        "frames": 4,
        "height": 16,
        "width": 24,
        "fps": 7,
        "extractor": "mean-colour",
        "feature_dim": 3,
        "resize": "none",
    }
    assert "first_frame" not in result


def test_first_frame_against_closed_form() -> None:
    generated = np.full((2, 3, 16, 16, 3), 100, np.uint8)
    conditions = generated[:, 0].copy()
    assert first_frame_fidelity(generated, conditions) == {"psnr_db": MAX_PSNR_DB, "ssim": pytest.approx(1)}
    conditions += 10
    fidelity = evaluate_clips(clips(3, 0), clips(3, 1), MeanColour(), conditions=clips(3, 0)[:, 0])["first_frame"]
    assert fidelity["psnr_db"] == MAX_PSNR_DB
    fidelity = first_frame_fidelity(generated, conditions)
    assert fidelity["psnr_db"] == pytest.approx(20 * math.log10(255 / 10))
    # Flat frames: SSIM is its luminance term alone, (2 a b + C1) / (a^2 + b^2 + C1) with C1 = 0.01^2.
    a, b = 100 / 255, 110 / 255
    assert fidelity["ssim"] == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), rel=1e-6)


def test_psnr_is_the_mean_over_clips() -> None:
    generated = np.full((2, 2, 16, 16, 3), 100, np.uint8)
    conditions = np.stack([np.full((16, 16, 3), 101, np.uint8), np.full((16, 16, 3), 120, np.uint8)])
    mean = (20 * math.log10(255 / 1) + 20 * math.log10(255 / 20)) / 2
    assert first_frame_fidelity(generated, conditions)["psnr_db"] == pytest.approx(mean)


def test_sets_that_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="generated clips are 4 frames of 24x16 and reference clips 3 frames of 24x16"):
        evaluate_clips(clips(3, 0), clips(3, 1, frames=3), MeanColour())
    with pytest.raises(UserError, match=r"conditioning frames: uint8 \(3, 16, 24, 3\) wanted"):
        evaluate_clips(clips(3, 0), clips(3, 1), MeanColour(), conditions=clips(2, 0)[:, 0])
    with pytest.raises(UserError, match="generated clips: uint8"):
        evaluate_clips(clips(3, 0) / 255, clips(3, 1), MeanColour())
    with pytest.raises(UserError, match="at least 2 samples"):
        evaluate_clips(clips(1, 0), clips(3, 1), MeanColour())
