"""Cleaning the cache: all that was written there goes, and nothing else, and nothing that is being used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import pytest

from device_runner.building.cache import make_folder
from device_runner.building.clean import cache_entries, clean_cache
from device_runner.devices import lock
from device_runner.devices.adb.lock import place, sole_use
from device_runner.devices.lock import sole_use_of_host
from device_runner.errors import RunnerError

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(folder: Path) -> Path:
    def fill(temporary: Path) -> None:
        (temporary / "lib").mkdir()
        (temporary / "lib" / "library.so").write_bytes(b"l" * 3000)
        (temporary / "runner").write_bytes(b"r" * 7000)

    return make_folder(folder, {"executorch": "1.5.1", "abi": "arm64-v8a"}, fill)


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def nothing(*_: object) -> None:
    pass


def test_all_that_is_written_there_is_removed(cache: Path) -> None:
    runner = build(cache / f"runner-glibc-arm64-v8a-{KEY}")
    build(cache / f"executorch-android-x86_64-{KEY}")
    build(cache / f"wheel-{KEY}")
    with sole_use_of_host(nothing), sole_use("R5CN 30"):
        pass
    write(cache / f"build-executorch-android-x86_64-{KEY}" / "CMakeFiles" / "one.o")
    write(cache / f".tmp-runner-{KEY}-a1b2c3_4" / "runner")
    write(cache / f"runner-{KEY}.log")
    write(cache / "download.log")
    write(cache / "wheels" / "executorch-1.5.1-cp311-cp311-manylinux_2_28_aarch64.whl")
    entries = clean_cache()
    assert not cache.exists() and cache.parent.is_dir()
    assert len(entries) == 10 and not any(entry.kept_because for entry in entries)
    (built,) = [entry for entry in entries if entry.path == runner]
    assert built.what == "program that measures on arm64-v8a, with ExecuTorch 1.5.1"
    assert 10_000 < built.size_bytes < 11_000  # two files and their record
    assert clean_cache() == [] and not cache.exists()


def test_what_was_not_written_there_stays(cache: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "file", "ten years")
    build(cache / "runner-of-mine")
    added = write(build(cache / f"runner-{KEY}") / "lib" / "notes.txt")
    theirs = [
        cache / "runner-of-mine" / "runner",
        added,
        write(cache / "notes.txt"),
        write(cache / "my.lock", "mine"),
        write(cache / "wheels" / "numpy-2.0-py3-none-any.whl"),
        write(cache / "adb" / "keys"),
        write(cache / f"wheel-{KEY}" / "no-record"),
        write(cache / f"runner-android-x86_64-{KEY}" / "build.json", '{"sha256": 1}'),
    ]
    write(cache / f"runner-android-x86_64-{KEY}" / "runner")
    (cache / f"build-runner-{KEY}").symlink_to(outside.parent)
    (cache / f"executorch-{KEY}.log").symlink_to(outside)
    kept = {path: path.read_bytes() for path in theirs}
    ours = build(cache / f"runner-{KEY[::-1]}")
    clean_cache()
    assert not ours.exists() and {path: path.read_bytes() for path in theirs} == kept
    assert (cache / f"build-runner-{KEY}").is_symlink() and (cache / f"executorch-{KEY}.log").is_symlink()
    assert outside.read_text() == "ten years" and not (cache / "host.lock").exists()
    reasons = {entry.path.name: entry.kept_because for entry in cache_entries()}
    assert reasons[f"runner-{KEY}"] == "holds lib/notes.txt, which was not written by MobileVD"
    assert reasons["notes.txt"] == reasons["my.lock"] == reasons["keys"] == "was not written by MobileVD"
    assert all(reasons.values())


def test_links_inside_what_was_built_lead_to_nothing_that_is_removed(cache: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "file", "ten years")
    (cache / f"build-runner-{KEY}").mkdir(parents=True, mode=0o700)
    cache.chmod(0o700)
    (cache / f"build-runner-{KEY}" / "sources").symlink_to(outside.parent)
    clean_cache()
    assert not cache.exists() and outside.read_text() == "ten years"


def test_what_is_being_used_is_left_alone(cache: Path) -> None:
    runner = build(cache / f"runner-{KEY}")
    with sole_use_of_host(nothing), pytest.raises(RunnerError, match=f"process {os.getpid()} is measuring"):
        clean_cache()
    with sole_use("R5CN30"), pytest.raises(RunnerError, match="is measuring with programs of the cache"):
        clean_cache()

    def fill(temporary: Path) -> None:
        with pytest.raises(RunnerError, match=rf"\.tmp-wheel-{KEY}-\w+: is being built by another process"):
            clean_cache()
        (temporary / "file").touch()

    wheel = make_folder(cache / f"wheel-{KEY}", {}, fill)
    assert runner.is_dir() and wheel.is_dir()
    clean_cache()
    assert not cache.exists()


def test_a_lock_that_was_removed_holds_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up may remove a lock's file between its opening and its locking, and then nobody else would see it."""
    opened, path = lock._opened, cache / "host.lock"

    def opened_and_removed(path: Path) -> IO[str]:
        monkeypatch.setattr(lock, "_opened", opened)
        file = opened(path)
        path.unlink()
        return file

    monkeypatch.setattr(lock, "_opened", opened_and_removed)
    with lock.hold(path, 0, str):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(RunnerError, match=f"^{os.getpid()}$"), lock.hold(path, 0, str):
            pass


def test_a_note_about_a_phone_is_kept_until_the_phone_is_clean(cache: Path) -> None:
    note = place("R5CN30", "collected")
    note.write_text('["run-1"]')
    (entry,) = clean_cache()
    assert note.read_text() == '["run-1"]'
    assert entry.kept_because and "`mobilevd devices --clean SERIAL` removes both" in entry.kept_because


def test_a_cache_that_others_can_write_into_is_refused(cache: Path) -> None:
    runner = build(cache / f"runner-{KEY}")
    cache.chmod(0o777)
    for work in (cache_entries, clean_cache):
        with pytest.raises(RunnerError, match="others can write into"):
            work()
    assert runner.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user needs the superuser")
def test_what_belongs_to_another_user_is_kept(cache: Path) -> None:
    runner = build(cache / f"runner-{KEY}")
    os.chown(runner, 12345, 12345)
    (entry,) = clean_cache()
    assert entry.kept_because == "belongs to another user" and runner.is_dir()
