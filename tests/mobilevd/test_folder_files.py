"""Folders as people arrange them: links are followed, loops end, and every file is taken once."""

from __future__ import annotations

import os
from pathlib import Path

from mobilevd.folder_files import files_below


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder, (".mp4", ".mov"))]


def make(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "disk", "x/1.mp4", "x/2.MOV", "3.mp4")
    make(tmp_path / "videos", "own.mp4", "notes.txt", ".hidden.mp4", ".cache/4.mp4", "folder.mp4/5.mp4")
    (tmp_path / "videos" / "linked").symlink_to(tmp_path / "disk" / "x")
    (tmp_path / "videos" / "three.mp4").symlink_to(tmp_path / "disk" / "3.mp4")
    assert names(tmp_path / "videos") == ["folder.mp4/5.mp4", "linked/1.mp4", "linked/2.MOV", "own.mp4", "three.mp4"]


def test_loops_end_and_nothing_comes_twice(tmp_path: Path) -> None:
    make(tmp_path, "b/1.mp4", "b/c/2.mp4")
    (tmp_path / "a").symlink_to("b")  # before the real one by name
    (tmp_path / "b" / "c" / "up").symlink_to("../..")
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "0.mp4").symlink_to("b/1.mp4")
    os.link(tmp_path / "b" / "1.mp4", tmp_path / "b" / "hard.mp4")
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "round").symlink_to("round")
    assert names(tmp_path) == ["b/1.mp4", "b/c/2.mp4"]
    assert names(tmp_path / "nowhere") == []


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert names(tmp_path) == []
