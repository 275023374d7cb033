"""Sets gathered from a stream: in order, in constant memory; kept in files; and how far clips lie from a set."""

from __future__ import annotations

import pickle
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eval.feature_cache import FeatureCache
from eval.feature_file import is_feature_file, read_features, write_features
from eval.frames.network import FrameNetwork
from eval.gather import FRAMES, StreamedClip, gather
from eval.outliers import outlier_scores
from mobilevd.errors import UserError


class MeanColours:
    """Three features: the mean colour of a clip."""

    name, distance_name, sha256, protocol = "mean-colour", "FD-colour", "0" * 64, {"feature_dim": 3}
    ddof = 1

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        self.batches.append(len(clips))
        return clips.astype(np.float64).mean((1, 2, 3))


def stream(count: int, frames: int = 6, side: int = 64) -> Iterator[StreamedClip]:
    for i in range(count):
        clip = np.full((frames, side, side, 3), i % 251, np.uint8)
        yield StreamedClip(f"{i}.mp4", clip, {"motion": float(i)})


def test_order_batches_and_values() -> None:
    extractor = MeanColours()
    gathered = gather(stream(11), [("colour", extractor)], batch_size=4)
    assert extractor.batches == [4, 4, 3]
    assert gathered.names == [f"{i}.mp4" for i in range(11)]
    assert gathered.values_of("motion").tolist() == list(range(11))
    assert gathered.features_of("colour").tolist() == [[i] * 3 for i in range(11)]


def peak_bytes(count: int) -> int:
    tracemalloc.start()
    try:
        gather(stream(count), [("colour", MeanColours())], batch_size=8)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_clips() -> None:
    few, many, clip_bytes = peak_bytes(40), peak_bytes(800), 6 * 64 * 64 * 3
    assert many - few < 760 * 2000  # a name, a number and three features of each
    assert many - few < 760 * clip_bytes / 30  # and not its pixels


def test_several_extractors_and_frames() -> None:
    network = FrameNetwork("mean", "1" * 64, lambda images: images.float().mean((2, 3)), "cpu", 5)
    kept = {}
    clips = [StreamedClip(clip.name, clip.pixels, clip.values, key=clip.name) for clip in stream(6)]
    pair = [("a", MeanColours()), ("b", MeanColours())]
    gathered = gather(clips, pair, network, 4, lambda key, features, values: kept.update({key: (features, values)}))
    assert gathered.frames is not None and gathered.frames.count == 36
    assert gathered.frames.mean == pytest.approx(2.5) and set(kept) == set(gathered.names)
    again = [StreamedClip(name, None, values, features) for name, (features, values) in kept.items()]
    blind = [("a", MeanColours()), ("b", MeanColours())]
    second = gather(again, blind, network, 4)
    assert np.array_equal(second.features_of("b"), gathered.features_of("b"))
    assert second.frames is not None and second.frames.mean == pytest.approx(2.5)
    assert not blind[0][1].batches and kept["0.mp4"][0][FRAMES].shape == (6, 3)


def test_features_that_are_no_numbers_name_the_clip() -> None:
    class Broken(MeanColours):
        def __call__(self, clips: np.ndarray) -> np.ndarray:
            return np.where(clips[:, 0, 0, 0, :1] == 5, np.inf, 0.0)

    with pytest.raises(UserError, match=r"5\.mp4: its features of colour are no numbers"):
        gather(stream(8), [("colour", Broken())], batch_size=3)


def test_a_file_of_features(tmp_path: Path) -> None:
    network = FrameNetwork("mean", "1" * 64, lambda images: images.float().mean((2, 3)), "cpu", 5)
    gathered = gather(stream(5), [("colour", MeanColours())], network)
    file, identity = tmp_path / "reference.npz", {"frames": 6, "fps": 7.0, "extractors": {"colour": ["0" * 64, {}]}}
    write_features(file, gathered, identity)
    again = read_features(file, identity)
    assert again.names == gathered.names and again.values == gathered.values
    assert np.array_equal(again.features_of("colour"), gathered.features_of("colour"))
    assert again.frames is not None and again.frames.count == 30
    assert np.array_equal(again.frames.gaussian()[1], gathered.frames.gaussian()[1])  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"made with fps 7\.0, but 8\.0 is wanted now; give another file"):
        read_features(file, {**identity, "fps": 8.0})
    with pytest.raises(UserError, match="made with extractors"):
        read_features(file, {**identity, "extractors": {"colour": ["1" * 64, {}]}})
    with np.load(file, allow_pickle=False) as arrays:
        content = {**{name: arrays[name] for name in arrays.files}, "features.colour": np.zeros((4, 3))}
    np.savez(file, **content)
    with pytest.raises(UserError, match=r"features\.colour does not fit its 5 clips"):
        read_features(file, identity)
    for other in (b"", b"no archive", pickle.dumps({"kind": "x"})):
        file.write_bytes(other)
        assert not is_feature_file(file)
        with pytest.raises(UserError, match="holds no features of clips"):
            read_features(file, identity)


def test_a_cache(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "new" / "cache")
    cache.put("key", {"colour": np.arange(3.0)}, {"motion": 0.5, "flicker": float("nan")})
    cache.close()
    cache = FeatureCache(tmp_path / "new" / "cache")
    found = cache.get("key")
    assert found is not None and cache.get("other") is None
    assert found[0]["colour"].tolist() == [0, 1, 2] and found[1]["motion"] == 0.5 and np.isnan(found[1]["flicker"])
    with cache.connection:
        cache.connection.execute("UPDATE clips SET content = ?", (pickle.dumps(np.arange(3)),))
    assert cache.get("key") is None  # damaged, or something else: made anew
    cache.close()
    (tmp_path / "text").write_text("ten years of work, in more than one hundred characters" * 3)
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE mine (x)")
    for name, told in (("text", "cannot be used as a cache"), ("other", "another program's database")):
        with pytest.raises(UserError, match=told):
            FeatureCache(tmp_path / name)


def test_outlier_scores() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4))
    reference = rng.normal(size=(4000, 4)) @ mix
    whitened = rng.normal(size=(50, 4))
    # many clips: the Mahalanobis distance itself, over the root of the dimension
    expected = np.sqrt((whitened**2).mean(axis=1))
    assert outlier_scores(whitened @ mix, reference) == pytest.approx(expected, rel=0.1)
    assert np.sqrt(np.mean(outlier_scores(reference, reference) ** 2)) == pytest.approx(1, abs=0.02)
    # fewer clips than features: still numbers, and what lies apart is the farthest
    few = rng.normal(size=(6, 32))
    scores = outlier_scores(np.concatenate([rng.normal(size=(9, 32)), np.full((1, 32), 5.0)]), few)
    assert np.isfinite(scores).all() and scores.argmax() == 9 and 0.5 < np.median(scores) < 2
    same = np.ones((3, 2))
    assert outlier_scores(np.array([[1.0, 1.0], [1.0, 2.0]]), same).tolist() == [0, np.inf]
