"""The shipped motion encoder: its distance sees damage to pictures and to motion, and grows with the damage."""

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.motion_distortions import LIGHT, measure, read_folder
from eval import frechet_distance
from eval.features import load_extractor
from eval.motion_encoder import SHIPPED_FOLDER, MotionEncoder, MotionEncoderConfig, MotionEncoderExtractor
from mobilevd.errors import UserError
from training.data.scenes import render_scene
from training.tiny.textured_scenes import render_textured

HELD_OUT = 5_000_000  # far from the scenes of the corpora and from those of the encoder's training
COUNT = 96


@cache
def scenes(first: int, count: int) -> np.ndarray:
    return np.stack([render_scene(HELD_OUT + first + i, 8, 32, 64, 7.0) for i in range(count)])


@cache
def shipped() -> MotionEncoderExtractor:
    extractor = load_extractor("motion")
    assert isinstance(extractor, MotionEncoderExtractor)
    return extractor


@cache
def reference_features() -> np.ndarray:
    return shipped()(scenes(0, 160))


@cache
def real_distance() -> float:
    return frechet_distance(shipped()(scenes(1000, COUNT)), reference_features())


# The damage is done here by other code than the encoder was trained with.


def noisy(clips: np.ndarray, levels: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(scale=levels, size=clips.shape)
    return np.clip(np.round(clips + noise), 0, 255).astype(np.uint8)


def blurred(clips: np.ndarray, passes: float) -> np.ndarray:
    x = clips.astype(np.float64)
    for _ in range(int(passes)):  # each pass of (1, 2, 1) / 4 both ways adds a variance of half a square pixel
        for axis in (2, 3):
            padded = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(5)], mode="edge")
            middle = [slice(None)] * 5
            parts = []
            for start in range(3):
                middle[axis] = slice(start, start + x.shape[axis])
                parts.append(padded[tuple(middle)])
            x = (parts[0] + 2 * parts[1] + parts[2]) / 4
    return np.round(x).astype(np.uint8)


def shuffled(clips: np.ndarray, reach: float) -> np.ndarray:
    """Put the frames in the order of their times plus a jitter of up to `reach` frames, another one for each clip."""
    jitter = np.random.default_rng(0).uniform(-reach, reach, size=clips.shape[:2])
    order = np.argsort(np.arange(clips.shape[1]) + jitter, axis=1)
    return np.take_along_axis(clips, order[:, :, None, None, None], axis=1)


def frozen(clips: np.ndarray, still: float) -> np.ndarray:
    out = clips.copy()
    out[:, 8 - int(still) :] = out[:, 8 - int(still), None]
    return out


def ghosted(clips: np.ndarray, share: float) -> np.ndarray:
    """Mix every frame with the first one: what moves fades into what stays."""
    return np.round((1 - share) * clips + share * clips[:, :1]).astype(np.uint8)


@pytest.mark.parametrize(
    ("damage", "strengths"),
    [
        (noisy, (13.0, 26.0, 52.0)),
        (blurred, (2, 6, 18)),
        (shuffled, (1.0, 2.0, 8.0)),
        (frozen, (2, 4, 8)),
        (ghosted, (0.15, 0.3, 0.5)),
    ],
)
def test_the_distance_grows_with_damage(damage: Callable[[np.ndarray, float], np.ndarray], strengths: tuple) -> None:
    damaged = [damage(scenes(1000, COUNT), s) for s in strengths]
    distances = [frechet_distance(shipped()(clips), reference_features()) for clips in damaged]
    assert distances[0] > 2 * real_distance()
    assert distances == sorted(distances)
    assert distances[2] > 1.3 * distances[0]
    assert distances[2] > 10 * real_distance()


def test_real_clips_are_near_real_clips() -> None:
    # The figure of 96 clips in 32 dimensions is mostly its own bias; it shrinks as clips are added.
    assert real_distance() < 6
    both = shipped()(np.concatenate([scenes(2000, COUNT), scenes(1000, COUNT)]))
    assert frechet_distance(both, reference_features()) < real_distance()


def brighter(clips: np.ndarray) -> np.ndarray:
    return np.clip(clips.astype(int) + 30, 0, 255).astype(np.uint8)


def less_contrast(clips: np.ndarray) -> np.ndarray:
    return np.round(127.5 + 0.7 * (clips - 127.5)).astype(np.uint8)


@pytest.mark.parametrize("change", [brighter, less_contrast])
def test_light_is_seen_and_does_not_lead(change: Callable[[np.ndarray], np.ndarray]) -> None:
    lit = frechet_distance(shipped()(change(scenes(1000, COUNT))), reference_features())
    assert lit > 1.5 * real_distance()
    assert lit < 0.2 * frechet_distance(shipped()(shuffled(scenes(1000, COUNT), 8)), reference_features())


def test_real_videos_in_another_light_are_nearer_than_shuffled_ones() -> None:
    if not (folder := os.environ.get("MOBILEVD_TEST_VIDEOS")):
        pytest.skip("MOBILEVD_TEST_VIDEOS names no folder of real videos")
    found = measure(shipped(), read_folder(Path(folder)))
    noise, rows = found["sampling_noise"], found["distortions"]
    shuffled_by = rows["shuffle, strength 1"]["distance"]
    assert shuffled_by > noise["mean"] + 5 * noise["deviation"]
    assert all(rows[name]["distance"] < shuffled_by for name in LIGHT)
    assert rows["red and blue swapped"]["distance"] > noise["mean"] + 2 * noise["deviation"]
    assert rows["none"]["outside_domain"] == 0


def test_backwards_is_as_real_as_forwards() -> None:
    # The scenes obey the same laws in both directions: a distance that saw the arrow of time would see ghosts.
    assert frechet_distance(shipped()(scenes(1000, COUNT)[:, ::-1]), reference_features()) < 2 * real_distance()


def test_untrained_features_are_blind_to_motion() -> None:
    # The reason for having trained one: the same network with random weights takes shuffled frames for real ones.
    torch.manual_seed(0)
    untrained = MotionEncoderExtractor(MotionEncoder(MotionEncoderConfig()))
    reference = untrained(scenes(0, 160))
    real = frechet_distance(untrained(scenes(1000, COUNT)), reference)
    assert frechet_distance(untrained(shuffled(scenes(1000, COUNT), 8)), reference) < 2 * real


def test_features_are_of_about_unit_variance_over_real_clips() -> None:
    features = reference_features()
    assert features.shape == (160, 32) and features.dtype == np.float64
    assert np.abs(features.mean(0)).max() < 0.5
    assert features.var(0).mean() == pytest.approx(1, rel=0.25)
    textured = [render_textured(HELD_OUT + i, 8, 32, 64, 7.0).permute(0, 2, 3, 1).numpy() for i in range(64)]
    others = shipped()(np.concatenate([np.stack(textured), noisy(scenes(0, 32), 26), shuffled(scenes(0, 32), 8)]))
    variances = np.concatenate([features, others]).var(0)
    assert (variances > 0.05).sum() >= 31  # of 32: one saturated in training, and says nothing
    strange = np.random.default_rng(0).integers(0, 256, size=(4, 8, 32, 64, 3), dtype=np.uint8)
    assert np.abs(shipped()(strange)).max() < 100  # nor does one explode on what was never seen


def test_a_clip_has_its_features_alone_and_in_any_batch() -> None:
    clips = scenes(1000, 5)
    together = shipped()(clips)
    alone = MotionEncoderExtractor(shipped().encoder, batch_size=1)(clips)
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_other_lengths_and_sizes() -> None:
    large = np.stack([render_scene(HELD_OUT + i, 14, 64, 128, 7.0) for i in range(3)])
    small = np.stack([render_scene(HELD_OUT + i, 14, 32, 64, 7.0) for i in range(3)])
    # The same scenes drawn larger and resized: nearly the same features, well within the spread of real clips.
    assert np.abs(shipped()(large) - shipped()(small)).mean() < 0.3
    assert shipped()(small[:, :2]).shape == (3, 32)
    assert shipped()(small[:, :2, :30, :51]).shape == (3, 32)


def test_protocol_and_names() -> None:
    assert shipped().distance_name == "FD-motion"  # never FVD: that is I3D's
    assert shipped().name == "motion-encoder-v2"
    assert shipped().protocol["feature_dim"] == 32
    assert shipped().protocol["input_size"] == [32, 64]
    assert sum(f.stat().st_size for f in SHIPPED_FOLDER.iterdir()) < 1.5e6


def test_save_and_load(tmp_path: Path) -> None:
    config = MotionEncoderConfig(name="other", channels=(4, 4, 4, 4), feature_dim=3, height=16, width=16)
    encoder = MotionEncoder(config).eval()
    encoder.save(tmp_path / "encoder")
    loaded = load_extractor(f"motion:{tmp_path / 'encoder'}")
    assert loaded.name == "other"
    clips = scenes(1000, 2)
    np.testing.assert_array_equal(loaded(clips), MotionEncoderExtractor(encoder)(clips))


def test_bad_folders_and_clips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="config.json: not found"):
        load_extractor(f"motion:{tmp_path}")
    MotionEncoder(MotionEncoderConfig(channels=(4, 4, 4, 4))).save(tmp_path / "e")
    fields = json.loads((tmp_path / "e" / "config.json").read_text())
    (tmp_path / "e" / "config.json").write_text(json.dumps({**fields, "feature_dim": 5}))
    with pytest.raises(UserError, match="not a motion encoder that this version can read"):
        load_extractor(f"motion:{tmp_path / 'e'}")
    (tmp_path / "e" / "config.json").write_text(json.dumps({**fields, "wings": 2}))
    with pytest.raises(UserError, match="wings"):
        load_extractor(f"motion:{tmp_path / 'e'}")
    with pytest.raises(UserError, match="at least 2 frames"):
        shipped()(scenes(1000, 2)[:, :1])
    with pytest.raises(UserError, match="uint8"):
        shipped()(scenes(1000, 2).astype(np.float32))


def test_training_is_repeatable_and_learns(tmp_path: Path) -> None:
    from training.tiny.motion_encoder import MotionEncoderTrainingSettings, train_encoder

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = MotionEncoderConfig(height=16, width=32, num_frames=4, channels=(8, 8, 8, 8), feature_dim=8)
        train = MotionEncoderTrainingSettings(scenes=8, steps=8, batch_size=4, balance_clips=48)
        digests = []
        for name in ("a", "b"):
            encoder, losses = train_encoder(config, train, quiet=True)
            encoder.save(tmp_path / name)
            digests.append(hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest())
    finally:
        torch.set_num_threads(threads)
    assert digests[0] == digests[1]
    assert set(losses) == {"motion", "colour", "damage"}
    assert all(np.isfinite(v) for v in losses.values())
