"""Flow, warping error and flicker on scenes whose motion is known."""

import cv2
import numpy as np
import pytest

from eval.frames.flicker import flicker
from eval.frames.flow import clip_flow, followed, warp
from eval.frames.warping import warping_error
from mobilevd.errors import UserError

SIZE = 64, 96
WAVES = [(3, 2, 0.3), (1, 5, 1.0), (7, 1, 2.0), (2, 7, 4.0), (9, 6, 0.7), (5, 11, 5.0)]


def texture(dx: float, dy: float) -> np.ndarray:
    """A smooth picture moved by dx, dy pixels: float (H, W), 128 + at most 96."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(float)
    waves = [np.sin(2 * np.pi * (a * (x - dx) + b * (y - dy)) / SIZE[1] + c) for a, b, c in WAVES]
    return 128 + 16 * np.sum(waves, axis=0)


def pan(dx: float, dy: float, frames: int = 6, brighter=lambda t: 0.0) -> np.ndarray:
    clip = np.stack([texture(dx * t, dy * t) + brighter(t) for t in range(frames)])
    return np.rint(clip).astype(np.uint8)[..., None].repeat(3, axis=-1)


def test_flow_of_a_pan() -> None:
    flow = clip_flow(pan(2, -1))
    for there, back, seen in zip(flow.to_next, flow.to_previous, flow.seen_next, strict=True):
        inner = (slice(8, -8), slice(8, -8))
        assert np.abs(there[inner] - (2, -1)).mean() < 0.1 and np.abs(back[inner] - (-2, 1)).mean() < 0.1
        assert seen[inner].mean() > 0.9
        assert seen[:, -2:].mean() < 0.3  # it leaves the picture there


def test_occlusion_by_hand() -> None:
    there = np.zeros((32, 64, 2), np.float32)
    there[:, 16:32, 0] = 8  # a bar that moves by 8 over what lies still
    back = np.zeros_like(there)
    back[:, 24:40, 0] = -8
    seen = followed(there, back)
    assert seen[:, 2:14].all() and seen[:, 18:30].all() and seen[:, 42:].all()
    assert not seen[:, 33:39].any()  # still pixels that the bar covers: the way back leads elsewhere
    assert not seen[:, [15, 16, 31, 32]].any()  # its edges
    away = np.zeros_like(there)
    away[..., 0] = 100
    assert not followed(away, -away).any()


def test_warping_fetches_bilinearly() -> None:
    frame = np.zeros((4, 8), np.uint8)
    frame[:, 4] = 100
    flow = np.zeros((4, 8, 2), np.float32)
    flow[..., 0] = 1.25
    assert warp(frame, flow)[1].tolist() == [0, 0, 25, 75, 0, 0, 0, 0]


def test_warping_error_of_known_changes() -> None:
    still = pan(0, 0)
    assert warping_error(still, clip_flow(still)) == 0
    moving = pan(2, 1)
    # rounded to grey levels, and interpolated: the error of a pan is that of 2 grey levels at most
    assert warping_error(moving, clip_flow(moving)) < (2 / 255) ** 2
    # the flow of the reference, and a clip that is another by 10 grey levels in every other frame
    changed = pan(2, 1, brighter=lambda t: 10.0 * (t % 2))
    assert warping_error(changed, clip_flow(moving)) == pytest.approx((10 / 255) ** 2, rel=0.05)
    frozen = np.repeat(moving[:1], len(moving), axis=0)
    assert warping_error(frozen, clip_flow(moving)) > 20 * warping_error(moving, clip_flow(moving))


def test_nothing_to_follow_is_no_number() -> None:
    flow = clip_flow(pan(0, 0, frames=3))
    nothing = [np.zeros_like(seen) for seen in flow.seen_next]
    blind = type(flow)(flow.to_next, flow.to_previous, nothing, nothing)
    assert np.isnan(warping_error(pan(0, 0, frames=3), blind)) and np.isnan(flicker(pan(0, 0, frames=3), blind))
    one_step = pan(0, 0, frames=2)
    assert np.isnan(flicker(one_step, clip_flow(one_step)))


def test_flicker_is_to_and_fro() -> None:
    quiet = pan(2, 1)
    assert flicker(quiet, clip_flow(quiet)) < 1 / 255
    fade = pan(2, 1, brighter=lambda t: 4.0 * t)
    assert flicker(fade, clip_flow(quiet)) < 1 / 255
    flickering = pan(2, 1, brighter=lambda t: 5.0 * (-1) ** t)
    assert flicker(flickering, clip_flow(quiet)) == pytest.approx(10 / 255, rel=0.05)
    assert flicker(flickering, clip_flow(flickering)) == pytest.approx(10 / 255, rel=0.1)  # its own flow will do, too


def test_noise_raises_both() -> None:
    quiet = pan(1, 0)
    noise = np.random.default_rng(0).normal(0, 6, quiet.shape)
    noisy = np.clip(np.rint(quiet + noise), 0, 255).astype(np.uint8)
    flow = clip_flow(quiet)
    # white noise of 6, between two frames that are not interpolated (a shift by whole pixels): the variances add up
    assert warping_error(noisy, flow) == pytest.approx(2 * (6 / 255) ** 2, rel=0.2)


def test_small_frames_are_refused() -> None:
    with pytest.raises(UserError, match="at least 16 pixels a side are needed, got 2 of 32x8"):
        clip_flow(np.zeros((2, 8, 32, 3), np.uint8))
    assert cv2.DISOPTICAL_FLOW_PRESET_MEDIUM == 2
    smallest = clip_flow(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    assert smallest.to_next[0].shape == (16, 16, 2)
