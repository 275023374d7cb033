"""Where a bundle may be written: a new place, an empty folder, an earlier bundle; never what is somebody's."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.bundle import export_bundle
from export.targets.executorch_xnnpack import ExecutorchXnnpack
from mobilevd.commands.export import export_command
from mobilevd.errors import UserError
from tests.export.models import SETTINGS, plain_unet


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a bundle of it."""
    folder = tmp_path_factory.mktemp("made")
    plain_unet().save_pretrained(folder / "model")
    export_bundle(plain_unet(), folder / "bundle", SETTINGS, name="bundle")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which nothing may be lowered: what is refused is refused before any work."""

    def lower(*_: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(ExecutorchXnnpack, "lower", lower)
    shutil.copytree(made, tmp_path / "place")
    return tmp_path / "place"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_not_an_earlier_bundle_is_refused_before_any_work(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "thesis").mkdir()
    (place / "thesis" / "thesis.tex").write_text("ten years")
    (place / "file").write_text("mine")
    (place / "bundle" / "notes.txt").write_text("measured on the bus")
    (place / "fake").mkdir()
    (place / "fake" / "manifest.json").write_text('{"name": "a web application"}')
    (place / "loop").symlink_to("loop")
    (place / "to-model").symlink_to("model")
    monkeypatch.chdir(place / "thesis")
    before = everything(place)
    for out, text in (
        (place / "thesis", "is the current folder"),
        (place / "model", "which is read"),
        (place / "to-model", "which is read"),
        (place, "holds it|which is read"),
        (place / "file", "is a file"),
        (place / "file" / "out", "Not a directory"),
        (place / "bundle", "not replaced, because it holds what was not written here .notes.txt"),
        (place / "fake", "manifest.json"),
        (place / "loop", "symbolic links"),
        (Path("."), "current folder"),
        (Path("/"), "current folder"),
        (Path("/proc/self/out"), "cannot be written"),
    ):
        with pytest.raises(UserError, match=text) as error:
            export_command(place / "model", out, targets=["executorch-xnnpack"])
        assert len(str(error.value).splitlines()) == 1
    assert everything(place) == before and [each.name for each in tmp_path.iterdir()] == ["place"]


def test_of_several_targets_each_has_its_own_folder(place: Path) -> None:
    several = ["executorch-xnnpack", "onnx"]
    (place / "all" / "onnx-fp32").mkdir(parents=True)
    (place / "all" / "onnx-fp32" / "mine.onnx").write_text("another's")
    with pytest.raises(UserError, match="all/onnx-fp32: is not replaced"):
        export_command(place / "model", place / "all", targets=several)
    with pytest.raises(UserError, match="is read by this export"):
        export_command(place / "model", place / "model", targets=several)
    assert not (place / "all" / "executorch-xnnpack-fp32").exists()


def test_an_earlier_bundle_is_replaced_and_its_neighbours_stay(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another export into `unet-fp16`, in the middle of one into `unet`, and through a link: all come out whole."""
    shutil.copytree(made / "bundle", tmp_path / "unet")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("kept")
    (tmp_path / "link").symlink_to("unet")
    lower, depth = ExecutorchXnnpack.lower, []

    def nested(self: Any, *arguments: Any) -> Any:
        if not depth:
            depth.append(1)
            export_bundle(plain_unet(), tmp_path / "unet-fp16", SETTINGS, name="inner", precision="fp16")
        return lower(self, *arguments)

    monkeypatch.setattr(ExecutorchXnnpack, "lower", nested)
    export_bundle(plain_unet(), tmp_path / "link", SETTINGS, name="outer")
    assert depth and (tmp_path / "link").is_symlink()
    for name, expected in (("unet", "outer"), ("unet-fp16", "inner")):
        assert json.loads((tmp_path / name / "manifest.json").read_text())["name"] == expected
    assert (tmp_path / "other" / "manifest.json").read_text() == "kept"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "other", "unet", "unet-fp16"]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_ends_in_the_middle_leaves_the_earlier_bundle(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    shutil.copytree(made / "bundle", tmp_path / "bundle")
    before = everything(tmp_path)

    def ended(self: Any, program: Any, precision: str, file: Path, layers: Any = None) -> None:
        file.write_bytes(b"half")
        raise end

    monkeypatch.setattr(ExecutorchXnnpack, "lower", ended)
    with pytest.raises((KeyboardInterrupt, UserError)) as error:
        export_bundle(plain_unet(), tmp_path / "bundle", SETTINGS, name="new")
    assert error.value is end or "the disk is full; nothing was left half-written" in str(error.value)
    assert everything(tmp_path) == before and [each.name for each in tmp_path.iterdir()] == ["bundle"]
