"""Temporaries of two processes never meet: own names, held while they are written, removed only when nobody is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobilevd.files import atomic_folder, atomic_write_text, recover_folder
from mobilevd.places import only
from mobilevd.temporary import remove_leftovers_in

ALL = only("*")
# A writer that is in the middle of a folder: it says so, and goes on when it is told to.
WRITER = """
import sys
from pathlib import Path
from mobilevd.files import atomic_folder
from mobilevd.places import only
with atomic_folder(Path(sys.argv[1]), only("*")) as folder:
    (folder / "who").write_text(sys.argv[2])
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writer(place: Path, name: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    return child


def finish(child: subprocess.Popen[str]) -> None:
    child.communicate("\n", timeout=60)
    assert child.returncode == 0


def test_names_that_begin_alike_and_the_same_place_twice(tmp_path: Path) -> None:
    children = [writer(tmp_path / "unet", "a"), writer(tmp_path / "unet-fp16", "b"), writer(tmp_path / "unet", "c")]
    with atomic_folder(tmp_path / "unet", ALL) as folder:  # clears leftovers of `unet`, of which there are none
        (folder / "who").write_text("d")
    recover_folder(tmp_path / "unet")
    for child in children:
        finish(child)
    assert (tmp_path / "unet" / "who").read_text() == "c" and (tmp_path / "unet-fp16" / "who").read_text() == "b"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["unet", "unet-fp16"]


def test_only_what_nobody_holds_is_removed(tmp_path: Path) -> None:
    alive, killed, other = (writer(tmp_path / name, name) for name in ("unet", "unet", "unet-fp16"))
    for child in (killed, other):
        child.kill()
        child.communicate()
    mine = [tmp_path / name for name in (".tmp-notes", ".tmp-0123-unet", ".tmp-0123456789abcdef", "tmp-unet")]
    for folder in mine:
        folder.mkdir()
    with atomic_folder(tmp_path / "unet", ALL):
        pass
    left = {each.name for each in tmp_path.iterdir()} - {each.name for each in mine} - {"unet"}
    assert sorted(name[-5:] for name in left) == ["-fp16", "-unet"], "one is being written, one is of another folder"
    remove_leftovers_in(tmp_path)
    assert all(folder.is_dir() for folder in mine)
    finish(alive)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([*(each.name for each in mine), "unet"])


def test_links_and_things_of_other_users_are_no_leftovers(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis").write_text("mine")
    (tmp_path / ".tmp-0123456789abcdef-unet").symlink_to("victim")
    (tmp_path / ".old-0123456789abcdef-unet").symlink_to("victim")
    os.mkfifo(tmp_path / ".tmp-0123456789abcdee-unet")
    with atomic_folder(tmp_path / "unet", ALL):
        pass
    remove_leftovers_in(tmp_path)
    assert (tmp_path / "victim" / "thesis").read_text() == "mine"
    if os.geteuid() == 0:
        other = tmp_path / ".tmp-0123456789abcde0-unet"
        other.mkdir()
        os.chown(other, 12345, 12345)
        remove_leftovers_in(tmp_path)
        assert other.is_dir()


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder", ALL):
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
