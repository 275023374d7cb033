"""Clips unlike all that the shipped motion encoder was trained on are told; real and damaged ones of its kind are not."""

from __future__ import annotations

import numpy as np
import pytest

from eval.domain import outside_domain, share_outside
from eval.features import load_extractor
from training.data.scenes import render_scene
from training.tiny.textured_scenes import render_textured

FORM = (8, 32, 64, 7.0)


def scenes(count: int) -> np.ndarray:
    return np.stack([render_scene(6_000_000 + i, *FORM) for i in range(count)])


def textured(count: int) -> np.ndarray:
    clips = [render_textured(6_000_000 + i, *FORM).permute(0, 2, 3, 1).numpy() for i in range(count)]
    return np.stack(clips)


@pytest.mark.parametrize("known", [scenes(48), textured(48), scenes(48)[:, ::-1].copy()])
def test_clips_of_its_kind_are_inside(known: np.ndarray) -> None:
    motion = load_extractor("motion")
    assert share_outside(motion, motion(known)) == 0
    assert outside_domain(motion, motion(known), "generated clips") is None


def strangers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    checkers = (np.indices((32, 64)).sum(0) % 2 * 255).astype(np.uint8)
    stripes = (np.arange(32) % 4 // 2 * 255).astype(np.uint8)
    return {
        "white noise": rng.integers(0, 256, (4, 8, 32, 64, 3)).astype(np.uint8),
        "checkers": np.broadcast_to(checkers[None, None, :, :, None], (4, 8, 32, 64, 3)).copy(),
        "stripes": np.broadcast_to(stripes[None, None, :, None, None], (4, 8, 32, 64, 3)).copy(),
    }


@pytest.mark.parametrize("kind", list(strangers()))
def test_strange_clips_are_told(kind: str) -> None:
    motion = load_extractor("motion")
    features = np.concatenate([motion(scenes(12)), motion(strangers()[kind])])
    assert share_outside(motion, features) == 0.25
    remark = outside_domain(motion, features, "generated clips")
    assert remark is not None and remark.startswith("25% of the generated clips are unlike all that motion-encoder-v2")


def test_other_networks_say_nothing() -> None:
    class Constant:
        name, distance_name, ddof, sha256 = "constant", "FD-constant", 1, "0" * 64
        protocol: dict[str, object] = {}

        def __call__(self, clips: np.ndarray) -> np.ndarray:
            return np.zeros((len(clips), 2))

    assert share_outside(Constant(), np.full((3, 2), 1e9)) is None
    assert outside_domain(Constant(), np.full((3, 2), 1e9), "reference clips") is None
