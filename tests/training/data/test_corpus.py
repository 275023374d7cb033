"""The procedural corpus: real files, written once, going on after a kill."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mobilevd.errors import UserError
from tests.training.data.scanned import scan_videos
from training.data import corpus
from training.data.corpus import SEEDS_APART, write_corpus
from training.data.scenes import render_scene
from training.data.video import read_clip
from training.data.video_stream import probe

SMALL: dict[str, Any] = {"seconds": 0.5, "fps": 8, "height": 32, "width": 64}


def test_files_are_the_scenes(tmp_path):
    seen = []
    folder = write_corpus(tmp_path / "c", 2, 3, **SMALL, progress=lambda done, count: seen.append((done, count)))
    assert sorted(path.name for path in folder.iterdir()) == ["corpus.json", "scene-00000.mp4", "scene-00001.mp4"]
    assert seen == [(1, 2), (2, 2)]
    settings = json.loads((folder / "corpus.json").read_text())
    assert settings == {"seed": 3, "count": 2, "seconds": 0.5, "fps": 8.0, "height": 32, "width": 64}
    path = folder / "scene-00001.mp4"
    assert (probe(path).num_frames, probe(path).fps) == (4, 8.0)
    scene = render_scene(3 * SEEDS_APART + 1, 4, 32, 64, 8)
    assert np.abs(read_clip(path, 4, 8, 0.0, 32, 64).astype(int) - scene).mean() < 4
    assert len(scan_videos(folder, 4, 8).clips) == 2


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    whole = write_corpus(tmp_path / "whole", 4, 0, **SMALL)

    def killed(done: int, count: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "c", 4, 0, **SMALL, progress=killed)
    (tmp_path / "c" / ".tmp-0123456789abcdef-scene-00002.mp4").write_bytes(b"half")
    rendered = []
    render = corpus.render_scene
    monkeypatch.setattr(corpus, "render_scene", lambda seed, *rest: rendered.append(seed) or render(seed, *rest))
    write_corpus(tmp_path / "c", 4, 0, **SMALL)
    assert rendered == [2, 3]
    files = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    assert files == {path.name: path.read_bytes() for path in whole.iterdir()}


def test_it_grows_but_never_mixes(tmp_path):
    changed: dict[str, Any] = {"fps": 9}
    write_corpus(tmp_path, 1, 0, **SMALL)
    write_corpus(tmp_path, 2, 0, **SMALL)
    assert (tmp_path / "scene-00001.mp4").exists()
    with pytest.raises(UserError, match=r"corpus.json: a corpus with other settings \(count 2 there, 1 asked\)"):
        write_corpus(tmp_path, 1, 0, **SMALL)
    with pytest.raises(UserError, match="seed 0 there, 1 asked, fps 8.0 there, 9.0 asked.*choose another folder"):
        write_corpus(tmp_path, 2, 1, **(SMALL | changed))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.mp4").touch()
    with pytest.raises(UserError, match="not empty, and no corpus"):
        write_corpus(tmp_path, 1, 0, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.mp4"]
