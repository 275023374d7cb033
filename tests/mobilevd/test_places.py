"""Nothing of the user's is ever replaced: every place that is refused, and what is written all the same."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from mobilevd.errors import UserError
from mobilevd.files import atomic_file, atomic_folder, atomic_write_json, atomic_write_text
from mobilevd.places import begins_with, check_output_file, check_output_folder, is_json_of_kind, is_json_with, only

OURS = only("config.json", "part-*.bin")


def refused(path: Path | str, text: str, *inputs: Path) -> None:
    with pytest.raises(UserError, match=text) as error:
        check_output_folder(Path(path), OURS, inputs)
    assert len(str(error.value).splitlines()) == 1


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_new_empty_and_earlier_folders_may_be_written(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new" / "deep", OURS)
    assert not (tmp_path / "new").exists(), "a check makes nothing"
    (tmp_path / "empty").mkdir()
    check_output_folder(tmp_path / "empty", OURS)
    check_output_folder(filled(tmp_path / "earlier", "config.json", "part-1.bin", ".DS_Store"), OURS)


def test_what_is_the_users_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(filled(tmp_path / "mixed", "config.json", "thesis.tex"), "holds what was not written here .thesis.tex")
    refused(filled(tmp_path / "deep", "config.json", "sub/part-1.bin"), "sub/part-1.bin")
    (tmp_path / "holder" / "keep").mkdir(parents=True)
    refused(tmp_path / "holder", "keep")  # an empty folder was made by somebody
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file", "is a file; give the name of a folder")
    refused(tmp_path / "file" / "deep", "Not a directory")
    model = filled(tmp_path / "models" / "unet", "config.json")
    refused(model, "is .*unet, which is read", model)
    refused(tmp_path / "models", "holds .*unet, which is read", model)
    monkeypatch.chdir(filled(tmp_path / "here" / "inner", "config.json"))
    monkeypatch.setenv("HOME", str(filled(tmp_path / "home", "config.json")))
    for place in (".", "..", "/", tmp_path / "here"):
        refused(place, "is the current folder, or holds it")
    refused(tmp_path / "home", "is the home folder, or holds it")
    refused("a\0b", "no name of a file")
    refused("n" * 300, "too long")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is a device or a pipe")


def test_links_are_written_through_and_stay(tmp_path: Path) -> None:
    real = filled(tmp_path / "real", "config.json")
    (tmp_path / "link").symlink_to("real")
    check_output_folder(tmp_path / "link", OURS)
    with atomic_folder(tmp_path / "link", OURS) as folder:
        (folder / "part-1.bin").write_text("new")
    assert (tmp_path / "link").is_symlink() and [each.name for each in real.iterdir()] == ["part-1.bin"]
    (tmp_path / "one.json").symlink_to("two.json")
    atomic_write_json(tmp_path / "one.json", 1)  # leads to nothing yet
    assert (tmp_path / "one.json").is_symlink() and (tmp_path / "two.json").read_text() == "1\n"
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a", "cannot be written: Too many levels of symbolic links")
    with pytest.raises(UserError, match="symbolic links"):
        atomic_write_text(tmp_path / "a", "x")
    refused(tmp_path / "link", "is .*real, which is read", real)  # the same folder by another name


def test_what_comes_while_a_folder_is_filled_stays(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="notes.txt"), atomic_folder(tmp_path / "out", OURS) as folder:
        (folder / "config.json").write_text("{}")
        filled(tmp_path / "out", "notes.txt")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_a_file_is_replaced_only_by_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "f"
    check_output_file(file, is_json_of_kind("results"), "results")
    for content, ours in (
        ('{"kind": "results"}', is_json_of_kind("results")),
        ('{"a": 1, "b": 2}', is_json_with("a", "b")),
        ('[{"a": 1}]', is_json_with()),
        ("name,ms\n", begins_with("name,")),
        ("", is_json_with("a")),
    ):
        file.write_text(content)
        check_output_file(file, ours, "results")
    for content in ("my notes", '{"kind": "other"}', "[1]", "[" * 100_000, "{" + '"a":{' * 50_000):
        file.write_text(content)
        for ours in (is_json_of_kind("results"), is_json_with("a", "b"), is_json_with(), begins_with("name,")):
            with pytest.raises(UserError, match="is not replaced, because it is not results"):
                check_output_file(file, ours, "results")
    with pytest.raises(UserError, match="is a folder; give the name of a file"):
        check_output_file(tmp_path, is_json_with(), "results")
    with pytest.raises(UserError, match="which is read"):
        check_output_file(file, begins_with("{"), "results", [file])
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("umask", "expected"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_is_honoured_and_permissions_stay(tmp_path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        atomic_write_text(tmp_path / "new", "x")
        with atomic_folder(tmp_path / "folder", OURS) as folder:
            descriptor = os.open(folder / "config.json", os.O_WRONLY | os.O_CREAT, 0o600)  # as safetensors does
            os.close(descriptor)
        with atomic_file(tmp_path / "tensors") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600))
        (tmp_path / "private").write_text("old")
        (tmp_path / "private").chmod(0o640)
        (tmp_path / "closed").mkdir(mode=0o700)
        (tmp_path / "closed").chmod(0o700)
        atomic_write_text(tmp_path / "private", "new")
        with atomic_folder(tmp_path / "closed", OURS):
            pass
    finally:
        os.umask(before)

    def mode(name: str) -> int:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    assert mode("new") == mode("tensors") == expected
    assert mode("folder") == expected | (0o111 & ~umask)
    assert mode("folder/config.json") == 0o600 | (expected & 0o044)
    assert (mode("private"), mode("closed")) == (0o640, 0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_no_permission_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o500)
    refused(tmp_path / "closed" / "out", "cannot be written: Permission denied")


def test_a_folder_that_nobody_can_write_into(tmp_path: Path) -> None:
    """The system's own refusal, which binds the superuser too."""
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc on this system")
    refused("/proc/self/out", "/proc/self/out: cannot be written")
    with pytest.raises(UserError, match="cannot be written"):
        check_output_file(Path("/proc/self/deep/out.json"), is_json_with(), "results")
    with pytest.raises(UserError, match="cannot be written"):
        atomic_write_text("/proc/self/deep/out.json", json.dumps({}))
