"""`mobilevd generate`: a clip of a picture, played several times, or forwards and backwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mobilevd.cli import app
from mobilevd.commands import generate
from mobilevd.commands.generate import play_order
from tests.source import ROOT


def test_the_order_of_frames() -> None:
    assert play_order(4) == [0, 1, 2, 3]
    assert play_order(3, loop=2) == [0, 1, 2, 0, 1, 2]
    assert play_order(4, boomerang=True) == [0, 1, 2, 3, 2, 1]
    assert play_order(3, 2, boomerang=True) == [0, 1, 2, 1, 0, 1, 2, 1]  # no frame twice in a row
    assert play_order(2, boomerang=True) == [0, 1] and play_order(1, 3, boomerang=True) == [0, 0, 0]


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture, and in place of the model frames that can be told apart: of 0, 40, 80 and 120."""
    frames = np.stack([np.full((32, 32, 3), 40 * i, np.uint8) for i in range(4)])
    monkeypatch.setattr(generate, "generate_frames", lambda *arguments, **settings: frames)
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def shown(picture: Path, *options: str) -> tuple[list[int], str]:
    """The frames that the written file shows, and what was said of it."""
    out, tiny = picture.parent / "clip.mp4", ROOT / "assets" / "tiny"
    words: list[Any] = ["--image", picture, "--out", out, "--model", tiny / "base", "--codec", tiny / "codec", *options]
    result = CliRunner().invoke(app, ["generate", *map(str, words)])
    assert result.exit_code == 0, result.output
    with av.open(str(out)) as video:
        frames = [frame.to_ndarray(format="rgb24").mean() for frame in video.decode(video=0)]
    return [round(float(frame) / 40) for frame in frames], result.stdout


def test_a_clip_is_played_as_it_is_asked_for(picture: Path) -> None:
    order, told = shown(picture)
    assert order == [0, 1, 2, 3] and "4 frames of 32x32" in told and ", played" not in told
    order, told = shown(picture, "--boomerang", "--loop", "2")
    assert order == 2 * [0, 1, 2, 3, 2, 1] and "played as 12 (1.7 s)" in told
    assert shown(picture, "--loop", "3")[0] == 3 * [0, 1, 2, 3]


def test_a_clip_is_played_once_at_least(picture: Path) -> None:
    words = ["--image", str(picture), "--out", "clip.mp4", "--model", "m", "--loop", "0"]
    result = CliRunner().invoke(app, ["generate", *words])
    assert result.exit_code == 2 and "greater than or equal to 1" in result.output
