"""Motion: closed forms, and what it must not see."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from eval.motion import clip_motion, motion_magnitude, motion_ratio
from mobilevd.errors import UserError
from training.data.scenes import render_scene
from training.data.video import read_clip

REAL = os.environ.get("MOBILEVD_TEST_VIDEOS")
needs_real_videos = pytest.mark.skipif(not REAL, reason="MOBILEVD_TEST_VIDEOS names no folder of real videos")
SIZES = [(32, 64), (120, 160)]


def with_noise(clip: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, deviation, clip.shape)
    return np.clip(np.rint(clip + noise), 0, 255).astype(np.uint8)


def mean_motion(clips: list[np.ndarray]) -> float:
    return float(np.mean([clip_motion(clip) for clip in clips]))


def test_flat_frames_by_hand() -> None:
    clips = np.zeros((2, 3, 4, 4, 3), np.uint8)
    clips[0, 1] = 255  # black, white, black: every step is a full change; the other clip stands still
    assert [clip_motion(clip) for clip in clips] == [pytest.approx(1), 0]
    assert motion_magnitude(clips) == pytest.approx(0.5)
    clips[0, 1] = 51
    assert clip_motion(clips[0]) == pytest.approx(0.2) and motion_magnitude(clips) == pytest.approx(0.1)
    odd = np.zeros((2, 95, 131, 3), np.uint8)  # blocks of 3 pixels, whose two halves are unequal, and a rest
    odd[1] = 102
    assert clip_motion(odd) == pytest.approx(0.4)


def test_a_moving_edge_by_hand() -> None:
    """A wide bar that moves by v pixels changes 2 v of the columns; blurring moves changes about, and loses none."""
    height, width, speed = 30, 200, 2
    clip = np.zeros((5, height, width, 3), np.uint8)
    for t in range(5):
        clip[t, :, 60 + speed * t : 140 + speed * t] = 255
    assert clip_motion(clip) == pytest.approx(2 * speed / width, rel=1e-3)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_noise_does_not_raise_it(height: int, width: int) -> None:
    scenes = [render_scene(seed, 8, height, width, 7) for seed in range(6)]
    quiet = mean_motion(scenes)
    for deviation in (2, 4):
        noisy = [with_noise(scene, deviation, seed) for seed, scene in enumerate(scenes)]
        assert mean_motion(noisy) == pytest.approx(quiet, rel=0.03)
    still = np.repeat(scenes[0][:1], 8, axis=0)
    assert clip_motion(still) == 0 and clip_motion(with_noise(still, 4)) < 0.01 * quiet
    # a mean of absolute differences sees the noise as motion
    assert motion_magnitude(with_noise(still, 4)[None]) > 0.3 * quiet


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_doubled_speed_doubles_it(height: int, width: int) -> None:
    # The same times of a scene at twice the frame rate: half the way from frame to frame, over the same path.
    slow = mean_motion([render_scene(seed, 15, height, width, 28) for seed in range(8)])
    fast = mean_motion([render_scene(seed, 8, height, width, 14) for seed in range(8)])
    assert fast == pytest.approx(2 * slow, rel=0.1)


def test_a_doubled_speed_of_a_texture_doubles_it() -> None:
    rng = np.random.default_rng(0)
    waves = [(rng.uniform(1, 6), rng.uniform(1, 6), rng.uniform(0, 6.3)) for _ in range(12)]
    y, x = np.mgrid[0:120, 0:160] / 160

    def pan(speed: float) -> np.ndarray:
        frames = []
        for t in range(8):
            u = x - speed * t / 160
            picture = 128 + 8 * np.sum([np.sin(2 * np.pi * (a * u + b * y) + c) for a, b, c in waves], axis=0)
            frames.append(np.rint(np.clip(picture, 0, 255)).astype(np.uint8))
        return np.stack(frames)[..., None].repeat(3, axis=-1)

    values = [clip_motion(pan(speed)) for speed in (0.5, 1, 2, 4)]
    assert np.divide(values[1:], values[:-1]) == pytest.approx(2, rel=0.1)


@needs_real_videos
def test_noise_on_real_videos() -> None:
    files = sorted(Path(REAL or "").rglob("*.mp4")) + sorted(Path(REAL or "").rglob("*.mkv"))[:6]
    clips = [read_clip(file, 8, 7, 0.0, 240, 320) for file in files]
    quiet = mean_motion(clips)
    for deviation in (2, 4):
        noisy = mean_motion([with_noise(clip, deviation, seed) for seed, clip in enumerate(clips)])
        assert noisy == pytest.approx(quiet, rel=0.03)
    still = np.repeat(clips[0][:1], 8, axis=0)
    assert clip_motion(still) == 0 and clip_motion(with_noise(still, 4)) < 0.01 * quiet


def test_ratio() -> None:
    scenes = np.stack([render_scene(seed, 4, 16, 32, 7) for seed in range(3)])
    assert motion_ratio(scenes, scenes // 2) == pytest.approx(2, rel=0.01)  # rounded
    assert motion_ratio(scenes[:, ::-1], scenes) == pytest.approx(1)  # falling changes count as rising ones
    assert motion_ratio(np.repeat(scenes[:, :1], 4, axis=1), scenes) == 0


def test_bad_input() -> None:
    still = np.zeros((1, 4, 8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="do not move at all"):
        motion_ratio(still, still)
    for measure in (motion_magnitude, lambda clips: motion_ratio(clips, clips)):
        with pytest.raises(UserError, match="at least 2 frames"):
            measure(still[:, :1])
        with pytest.raises(UserError, match="uint8"):
            measure(still.astype(np.float32))
    with pytest.raises(UserError, match="at least 2x2 pixels are needed, got 8x1"):
        clip_motion(still[0, :, :1])
