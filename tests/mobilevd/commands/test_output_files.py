"""Every option that names a file to write: a file of another kind, or one that is read, is refused before any work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mobilevd.cli import app
from mobilevd.errors import UserError
from training.data.scenes import render_scene
from training.data.video import write_video
from training.data.video_place import check_video_place


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("mine.json", "mine.csv", "mine.html", "mine.mp4"):
        (tmp_path / name).write_text("ten years of work")
    for name in ("model", "clips"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for seed in range(2):
        write_video(tmp_path / "clips" / f"{seed}.mp4", render_scene(seed, 4, 32, 64, 8), 8)
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / "picture.png")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("flops --json F/mine.json", "not a table of FLOPs"),
        ("flops --model F/model --json F/model/config.json", "not a table of FLOPs|which is read"),
        ("bench F/model --json F/mine.json", "not results of this kind"),
        ("bench F/model --csv F/mine.csv", "not a table of results"),
        ("bench F/model --samples-csv F/mine.csv", "not a table of samples"),
        ("bench F/model --html F/mine.html", "not a page of results"),
        ("bench --blocks F/model --json F/mine.json", "not results of this kind"),
        ("compare F/model/config.json F/mine.csv --json F/mine.json", "not a comparison"),
        ("compare F/a.json F/mine.json --json F/mine.json", "which is read|not a comparison"),
        ("evaluate --generated F/clips --reference F/clips --json F/mine.json", "not an evaluation"),
        ("evaluate --generated F/clips --reference F/clips --per-clip F/mine.csv", "not a table of an evaluation"),
        ("evaluate --generated F/clips --reference F/clips --cache F/mine.json", "cannot be used as a cache"),
        ("evaluate --generated F/clips --reference-features F/mine.json", "holds no features of clips"),
        ("generate --model F/model --image F/picture.png --out F/mine.mp4", "not a clip that was written here"),
        ("generate --model F/model --image F/picture.png --out F/picture.png", "no name of a video"),
        ("generate --model F/model --image F/picture.png --out F/clips", "no name of a video"),
        ("flops --json F/clips", "is a folder"),
        ("flops --json F/mine.csv/deep.json", "cannot be written"),
    ],
)
def test_anothers_file_is_refused(folder: Path, command: str, text: str) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, [word.replace("F/", f"{folder}/") for word in command.split()])
    assert result.exit_code == 2, result.output
    assert re.search(text, result.output), result.output
    assert len(result.output.strip().splitlines()) == 1
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ones_own_file_is_replaced(folder: Path) -> None:
    (folder / "flops.json").write_text('[{"name": "of an earlier time"}]')
    assert CliRunner().invoke(app, ["flops", "--json", str(folder / "flops.json")]).exit_code == 0
    assert len(json.loads((folder / "flops.json").read_text())) > 1
    check_video_place(folder / "clips" / "0.mp4")  # an earlier clip


def test_a_clip_of_another_program_is_no_earlier_clip(folder: Path) -> None:
    with av.open(str(folder / "phone.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for frame in render_scene(1, 4, 32, 64, 8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(UserError, match="not a clip that was written here"):
        check_video_place(folder / "phone.mp4")
