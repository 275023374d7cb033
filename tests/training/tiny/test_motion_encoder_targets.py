"""What the motion encoder is taught: flow by direction, read off pixels, and the damage done to a clip."""

import numpy as np
import pytest
import torch

from eval.distortions import DISTORTIONS, ghost
from eval.motion_encoder import MotionEncoderConfig
from training.tiny.motion_encoder import (
    APPEARANCES,
    KINDS,
    Batches,
    MotionEncoderTrainingSettings,
    appearance,
    flow_histogram,
    render_pool,
)


def moving_square(dy: float, dx: float, frames: int = 4) -> torch.Tensor:
    """A soft bright square that moves by (dy, dx) pixels per frame, (F, 3, 32, 64)."""
    y, x = torch.arange(32.0)[:, None], torch.arange(64.0)[None]
    pictures = []
    for t in range(frames):
        inside = torch.sigmoid(6 - (y - 16 - dy * t).abs()) * torch.sigmoid(6 - (x - 32 - dx * t).abs())
        pictures.append(inside.expand(3, 32, 64))
    return torch.stack(pictures)


@pytest.mark.parametrize(
    ("dy", "dx", "direction"), [(0.0, 1.0, 0), (1.0, 1.0, 1), (1.0, 0.0, 2), (0.0, -1.0, 4), (-1.0, 0.0, 6)]
)
def test_flow_points_where_things_move(dy: float, dx: float, direction: int) -> None:
    flow = flow_histogram(moving_square(dy, dx)).mean(0)
    assert int(flow.argmax()) == direction
    assert flow[(direction + 4) % 8] < 0.1 * flow[direction]
    half = flow_histogram(moving_square(dy / 2, dx / 2)).mean(0)
    assert float(flow[direction] / half[direction]) == pytest.approx(2, rel=0.1)


def test_flow_is_nothing_where_nothing_moves() -> None:
    assert float(flow_histogram(moving_square(0, 0)).abs().max()) < 1e-6


def test_clips_are_mirrored_and_reversed_together_with_their_targets() -> None:
    config = MotionEncoderConfig()
    batches = Batches(render_pool(config, 6, 0), config, MotionEncoderTrainingSettings(scenes=6))
    agreements = []
    for i in range(48):
        clip, twin, halves = batches._clip(i % 6)
        assert torch.equal(clip[0], twin[0])  # another future of the same picture
        seen = flow_histogram((clip + 1) / 2)
        seen = torch.stack([seen[:3].sum(0), seen[4:].sum(0)]).flatten()
        agreements.append(float(torch.corrcoef(torch.stack([seen, halves]))[0, 1]))
    assert np.median(agreements) > 0.8  # measured at twice the rate, so not the same figures
    assert np.quantile(agreements, 0.05) > 0.3


def test_appearance_tells_colours_light_and_contrast() -> None:
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0, :, :4] = 1.0
    found = appearance(red)[0]
    assert found.shape == (APPEARANCES,)
    assert found[:3].tolist() == [0.5, 0, 0] and float(found[3]) > 0.49 and found[4:6].tolist() == [0, 0]
    assert float(found[6]) == 0.5 and found[7:].tolist() == [0.5, 0, 0, 0, 0, 0]
    assert appearance(red.flip(1))[0][:3].tolist() == [0, 0, 0.5]


def test_strengths_say_which_damage_was_done() -> None:
    config = MotionEncoderConfig()
    batches = Batches(render_pool(config, 4, 0), config, MotionEncoderTrainingSettings(scenes=4, batch_size=64))
    clips, motion, colour, strengths, defined = batches.next()
    assert clips.shape == (64, 3, 8, 32, 64) and float(clips.abs().max()) <= 1
    assert motion.shape == (64, 16) and colour.shape == (64, APPEARANCES) and strengths.shape == (64, len(KINDS))
    damaged = (strengths > 0).sum(1)
    assert int(damaged.max()) == 1 and 0.4 < float(damaged.float().mean()) < 0.95
    assert not defined[strengths[:, KINDS.index("shuffle")] > 0].any()  # no flow to be told in shuffled frames
    assert defined[damaged == 0].all()


@pytest.mark.parametrize("name", list(DISTORTIONS))
def test_damage_grows_with_strength_and_repeats(name: str) -> None:
    config = MotionEncoderConfig()
    clips = render_pool(config, 8, 0)[:, ::2][:, :8].float().transpose(1, 2).contiguous() / 127.5 - 1
    changes = []
    for s in (0.25, 0.6, 1.0):
        strength = torch.full((8,), s)
        out = DISTORTIONS[name](clips, strength, torch.Generator().manual_seed(1))
        again = DISTORTIONS[name](clips, strength, torch.Generator().manual_seed(1))
        assert out.shape == clips.shape and torch.equal(out, again)
        changes.append(float((out - clips).abs().mean()))
    assert 0 < changes[0] < changes[1] < changes[2]


def test_full_freeze_is_the_first_frame_and_full_ghost_half_of_each() -> None:
    clips = torch.rand(2, 3, 8, 4, 4)
    still = DISTORTIONS["freeze"](clips, torch.ones(2), torch.Generator())
    assert torch.equal(still, clips[:, :, :1].expand_as(clips))
    assert torch.allclose(ghost(clips, -clips, torch.ones(2)), torch.zeros_like(clips))
