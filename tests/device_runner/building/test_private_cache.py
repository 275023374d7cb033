"""Machines that people share: what lies in the cache is run, so nobody else may put anything there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from device_runner.building.cache import RECORD, cache_folder, check_intact, make_folder
from device_runner.building.private import check_private, make_private
from device_runner.devices.lock import hold
from device_runner.errors import RunnerError
from tests.source import ROOT

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user needs the superuser")
OTHER = 12345


def build(folder: Path, *, program: str = "ours") -> Path:
    def fill(temporary: Path) -> None:
        (temporary / "runner").write_text(program)

    return make_folder(folder, {"made": "here"}, fill)


def test_a_new_cache_is_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = build(tmp_path / "cache" / "runner-1")
    finally:
        os.umask(before)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700 and folder.stat().st_mode & 0o077 == 0
    assert cache_folder(tmp_path / "cache") == tmp_path / "cache"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722, 0o1777])
def test_a_folder_that_others_can_write_into_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    for use in (check_private, make_private, cache_folder, lambda folder: build(folder / "runner-1")):
        with pytest.raises(
            RunnerError, match=f"others can write into .*cache, .*; chmod go-w {tmp_path}/cache, or set"
        ):
            use(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_parent_in_which_others_can_exchange_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(RunnerError, match=f"others can write into {tmp_path}/open"):
        make_private(tmp_path / "open" / "cache")
    (tmp_path / "open").chmod(0o1777)  # as the system's folder for temporary files
    make_private(tmp_path / "open" / "mine")
    (tmp_path / "link").symlink_to("open/cache")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(RunnerError, match="others can write into"):
        cache_folder(tmp_path / "link")


@root_only
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    os.chown(tmp_path / "cache", OTHER, OTHER)
    with pytest.raises(RunnerError, match="cache belongs to another user, who could put programs there"):
        cache_folder(tmp_path / "cache")
    with pytest.raises(RunnerError, match="belongs to another user"):
        make_private(tmp_path / "cache" / "mine")


def test_what_was_not_built_here_is_not_run(tmp_path: Path) -> None:
    folder = build(tmp_path / "cache" / "runner-1")
    assert build(folder, program="not built again") == folder and (folder / "runner").read_text() == "ours"
    for change, text in (
        (lambda: (folder / "runner").write_text("theirs"), "runner: is not the file that was built; delete"),
        (lambda: (folder / "more.so").write_text("theirs"), "does not hold what was built; delete it"),
        (lambda: (folder / "runner").unlink(), "does not hold what was built"),
        (lambda: (folder / RECORD).write_text("{}"), "does not hold what was built"),
    ):
        kept = {path: path.read_bytes() for path in folder.iterdir()}
        change()
        with pytest.raises(RunnerError, match=text):
            build(folder)
        for path in folder.iterdir():
            path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)
        check_intact(folder)


def test_a_link_in_place_of_the_program_is_seen(tmp_path: Path) -> None:
    folder = build(tmp_path / "cache" / "runner-1")
    (tmp_path / "copy").write_text("ours")
    (folder / "runner").unlink()
    (folder / "runner").symlink_to(tmp_path / "copy")
    with pytest.raises(RunnerError, match="is not the file that was built"):
        build(folder)


def busy(holder: str) -> str:
    return f"held by {holder}"


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_lock_never_writes_into_another_file(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    (tmp_path / "victim").write_text("ten years")
    make(tmp_path / "victim", tmp_path / "host.lock")
    with (
        pytest.raises(RunnerError, match="host.lock: (cannot be written|is no lock file)"),
        hold(tmp_path / "host.lock", 0, busy),
    ):
        pass
    assert (tmp_path / "victim").read_text() == "ten years"


def test_a_lock_names_a_process_and_nothing_else(tmp_path: Path) -> None:
    lock = tmp_path / "host.lock"
    lock.write_text("\x1b[2Jrm -rf /\n")
    with hold(lock, 0, busy):
        assert lock.read_text() == f"{os.getpid()}\n"
        with pytest.raises(RunnerError, match=f"held by {os.getpid()}$"), hold(lock, 0, busy):
            pass
        lock.write_text("\x1b[2Jrm -rf /\n")
        with pytest.raises(RunnerError, match="held by another one$"), hold(lock, 0, busy):
            pass
    assert lock.stat().st_mode & 0o077 == 0 or lock.stat().st_mode & 0o777 == 0o644  # of the test's own making


def setup_in(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "setup.sh").write_text((ROOT / "setup.sh").read_text())
    (folder / "pyproject.toml").touch()
    (folder / "constraints.txt").touch()
    return subprocess.run(["sh", str(folder / "setup.sh"), "true"], capture_output=True, text=True)


def test_setup_follows_no_links(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for place in (".venv", ".bootstrap", ".cache"):
        (tmp_path / place).symlink_to("elsewhere")
        result = setup_in(tmp_path)
        assert result.returncode == 1 and f"{place} is a link" in result.stderr, result.stderr
        (tmp_path / place).unlink()
    assert not list((tmp_path / "elsewhere").iterdir())


@root_only
def test_setup_refuses_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", OTHER, OTHER)
    result = setup_in(tmp_path / "theirs")
    assert result.returncode == 1 and "belongs to another user, whose code would run" in result.stderr


def test_what_setup_fetches_has_a_version() -> None:
    assert '"uv==$uv_version"' in (ROOT / "setup.sh").read_text()


def test_what_lies_above_the_home_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Homes often lie in folders that belong to a group or an institute."""
    (tmp_path / "institute").mkdir()
    (tmp_path / "institute").chmod(0o777)
    monkeypatch.setenv("HOME", str(tmp_path / "institute" / "me"))
    make_private(tmp_path / "institute" / "me" / ".cache" / "mobilevd")
    (tmp_path / "institute" / "me").chmod(0o777)
    with pytest.raises(RunnerError, match="others can write into .*institute/me,"):
        make_private(tmp_path / "institute" / "me" / ".cache" / "mobilevd")
