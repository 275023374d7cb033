"""`mobilevd cache` without a configuration: what is kept for the user is listed or removed, and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_runner.building.cache import make_folder
from mobilevd.cli import app

KEY = "0123456789abcdef"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("MOBILEVD_CACHE", str(place))

    def fill(new: Path) -> None:
        (new / "runner").write_bytes(b"r" * 2345678)

    make_folder(place / f"runner-{KEY}", {"executorch": "1.5.1"}, fill)
    (place / "notes.txt").write_text("mine")
    return place


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["cache", *arguments])


def test_it_is_listed_and_removed(cache: Path) -> None:
    built = f"    2.3 MB  runner-{KEY}: program that measures on this host, with ExecuTorch 1.5.1\n"
    mine = "       4 B  notes.txt: something else; kept: was not written by MobileVD\n"
    listed = invoke("--list")
    assert listed.stdout == f"{built}{mine}2.3 MB in {cache}; --clean removes what is not kept\n"
    assert (cache / f"runner-{KEY}" / "runner").is_file()
    cleaned = invoke("--clean")
    assert cleaned.stdout == f"{built}{mine}freed 2.3 MB in {cache}\n"
    assert [path.name for path in cache.iterdir()] == ["notes.txt"]
    assert invoke("--clean").stdout == f"{mine}freed 0 B in {cache}\n"


def test_no_cache_is_no_mistake(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "none"))
    for option in ("--list", "--clean"):
        assert invoke(option).stdout == f"{tmp_path / 'none'}: nothing is there\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "cache: no CONFIG; give the configuration whose clips to encode, or --list or --clean"),
        (["demo.yaml", "--clean"], "demo.yaml: --list and --clean take no CONFIG"),
        (["--list", "--clean"], "give one of them"),
    ],
)
def test_what_does_not_go_together_is_refused(cache: Path, arguments: list[str], told: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and told in result.stderr
    assert (cache / f"runner-{KEY}").is_dir()
