"""Textured scenes and their light: every kind of motion is among them, and what light changes is the same in all frames."""

from __future__ import annotations

import torch

from training.tiny.light import change_light
from training.tiny.motion_encoder import flow_histogram
from training.tiny.textured_scenes import render_textured

SIZE = (8, 32, 64, 14.0)


def test_a_seed_is_a_scene() -> None:
    first = render_textured(3, *SIZE)
    assert first.shape == (8, 3, 32, 64) and first.dtype == torch.uint8
    assert torch.equal(first, render_textured(3, *SIZE))
    assert not torch.equal(first, render_textured(4, *SIZE))


def test_some_stand_still_and_some_move_as_a_whole() -> None:
    scenes = [render_textured(seed, *SIZE).float() / 255 for seed in range(60)]
    moved = torch.stack([(scene[1:] != scene[:-1]).any(1).float().mean() for scene in scenes])  # share of pixels
    assert (moved < 0.5).float().mean() > 0.1 and (moved > 0.9).float().mean() > 0.3
    flows = torch.stack([flow_histogram(scene).mean(0) for scene in scenes])  # (60, 8)
    one_way = flows.amax(1) / flows.sum(1).clamp(min=1e-6)
    assert float(one_way.max()) > 0.35 and float(one_way.min()) < 0.2  # pans; and what turns, grows or parts
    assert set(flows.argmax(1).tolist()) == set(range(8))


def test_light_is_the_same_in_all_frames_of_a_clip_and_differs_from_clip_to_clip() -> None:
    clips = torch.rand(64, 3, 1, 8, 8).expand(64, 3, 4, 8, 8) * 1.2 - 0.6
    lit = change_light(clips, torch.Generator().manual_seed(0))
    assert torch.equal(lit, lit[:, :, :1].expand_as(lit)) and float(lit.abs().max()) <= 1
    same = (lit == clips).flatten(1).all(1)
    assert 0.1 < float(same.float().mean()) < 0.5
    means = lit[~same].mean((2, 3, 4))
    assert float(means.mean(1).std()) > 0.15 and float((means - means.mean(1, keepdim=True)).std()) > 0.03
    again = change_light(clips, torch.Generator().manual_seed(0))
    assert torch.equal(lit, again)
