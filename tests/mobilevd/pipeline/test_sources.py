"""The clips of a run from every kind of source: who trains, who judges, and what the other processes need."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline import data as data_module
from mobilevd.pipeline import sources
from mobilevd.pipeline.data import RunClips, prepare_clips
from mobilevd.pipeline.display import Display
from training.data.scenes import render_scene
from training.data.sources import source
from training.data.video import write_video

NAMES = [f"Archery/v_Archery_g{n:02d}_c01.avi" for n in range(1, 5)] + ["YoYo/v_YoYo_g01_c01.avi"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """UCF-101's layout, and lists that leave out one video."""
    root = tmp_path_factory.mktemp("ucf")
    for number, name in enumerate(NAMES):
        (root / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / "videos" / name, render_scene(number, 10, 40, 60, 10), 10)
    (root / "train.txt").write_text("".join(f"{name} 1\n" for name in NAMES[:2]))
    (root / "test.txt").write_text("\n".join(NAMES[3:]))
    return root


def prepared(folder: Path, **data) -> tuple[RunClips, str]:
    values = {"num_frames": 4, "clips_per_video": 1, "workers": 0, **data}
    made = RunConfig.model_validate(
        {
            "name": "x",
            "output": folder,
            "base": {"model": folder, "codec": folder},
            "data": values,
            "stages": [{"name": "a"}],
        }
    )
    text = io.StringIO()
    return prepare_clips(made, Display(Console(file=text, width=200))), text.getvalue()


def names(clips: RunClips) -> tuple[list[str], list[str]]:
    return [c.video.name for c in clips.train.clips], [c.video.name for c in clips.test.clips]


@pytest.fixture
def second(monkeypatch):
    """From now on this is another process than the first: it reads no video and looks for none."""

    def begin() -> None:
        for module in (data_module, sources):
            monkeypatch.setattr(module, "join_processes", lambda: SimpleNamespace(is_main_process=False))
        monkeypatch.setattr(source, "_open", None)
        monkeypatch.setattr(sources, "build_index", None)

    return begin


def test_lists_say_who_trains_and_who_judges(videos, tmp_path, second):
    lists = {"train_list": videos / "train.txt", "test_list": videos / "test.txt"}
    both, told = prepared(tmp_path / "a", videos=str(videos / "videos"), **lists)
    assert names(both) == (NAMES[:2], NAMES[3:])
    assert "4 clips from 4 videos" in told and "shots by pyscenedetect" in told  # the fifth is not even read
    rest, _ = prepared(tmp_path / "b", videos=str(videos / "videos"), test_list=videos / "test.txt")
    assert names(rest) == (NAMES[:3], NAMES[3:])
    split, _ = prepared(tmp_path / "c", videos=str(videos / "videos"), train_list=videos / "train.txt", holdout=1)
    assert sorted(sum(names(split), [])) == NAMES[:2]
    second()
    assert prepared(tmp_path / "a", videos=str(videos / "videos"), **lists)[0] == both
    assert prepared(tmp_path / "b", videos=str(videos / "videos"), test_list=videos / "test.txt")[0] == rest
    with pytest.raises(UserError, match="the index of videos cannot be used"):
        prepared(tmp_path / "d", videos=str(videos / "videos"))


def test_lists_that_overlap_or_leave_nothing(videos, tmp_path):
    where = {"videos": str(videos / "videos"), "train_list": videos / "train.txt"}
    with pytest.raises(UserError, match="both list 2 videos"):
        prepared(tmp_path / "a", test_list=videos / "train.txt", **where)
    (tmp_path / "more.txt").write_text("\n".join([*NAMES, "Gone/gone.avi"]))
    with pytest.raises(UserError, match=r"more.txt: 1 of its 6 videos are not in .*videos \(Gone/gone.avi\)"):
        prepared(tmp_path / "b", test_list=tmp_path / "more.txt", **where)
    assert not (tmp_path / "b" / "data").exists(), "told before any work"


def test_shards_and_a_manifest(videos, tmp_path, second):
    with tarfile.open(tmp_path / "s-0.tar", "w") as archive:
        for name in NAMES:
            archive.add(videos / "videos" / name, name)
    shards = str(tmp_path / "s-{0..0}.tar")
    (tmp_path / "m.csv").write_text(f"path,start\n{videos / 'videos' / NAMES[0]},0.2\n")
    first, told = prepared(tmp_path / "a", videos=shards, reference_videos=str(tmp_path / "m.csv"))
    assert names(first)[0] == [f"s-0.tar/{name}" for name in NAMES]
    assert [clip.start_s >= 0.2 for clip in first.test.clips] == [True]
    assert "reading" in told and "5 clips from 5 videos" in told
    second()
    assert prepared(tmp_path / "a", videos=shards, reference_videos=str(tmp_path / "m.csv"))[0] == first


def test_filters_are_told_and_cost_no_reading(videos, tmp_path, monkeypatch):
    first, _ = prepared(tmp_path, videos=str(videos / "videos"), holdout=1)
    monkeypatch.setattr("training.data.index.build._look", None)  # nothing is read any more
    motions = sorted(clip.motion.magnitude for clip in [*first.train.clips, *first.test.clips])
    _, told = prepared(tmp_path, videos=str(videos / "videos"), holdout=1, min_motion=motions[1] * 1.0001)
    assert "3 clips from 3 videos" in told and "left out: 2 by data.min_motion" in told
    report = json.loads((tmp_path / "data" / "clips.json").read_text())
    assert report["left_out"]["train"] == {"min_motion": 2} and report["train_clips"] + report["test_clips"] == 3
    with pytest.raises(UserError, match="no clip is left of its 5 videos; left out: 5 by data.max_motion"):
        prepared(tmp_path, videos=str(videos / "videos"), max_motion=motions[0] * 0.9)


def test_procedural_videos_have_an_index_too(tmp_path, second):
    scenes = {"train": 2, "test": 1, "seconds": 1.0, "fps": 8}
    first, _ = prepared(tmp_path, scenes=scenes, height=16, width=32)
    assert names(first) == (["scene-00000.mp4", "scene-00001.mp4"], ["scene-00000.mp4"])
    second()
    assert prepared(tmp_path, scenes=scenes, height=16, width=32)[0] == first
