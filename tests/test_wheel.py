"""The package as others get it: an sdist with everything, a wheel that works in an empty environment from any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.source import ROOMS, ROOT, project_files

OVERRIDES = ["training.num_threads=1", "bench.threads=1", "bench.iterations=3"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel, built from a copy of the project's files: the wheel from the sdist, as installers do."""
    copy, out = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("dist")
    for file in project_files():
        place = copy / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def test_the_sdist_has_every_file_of_the_project(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    missing = {file.relative_to(ROOT).as_posix() for file in project_files()} - there
    assert not missing, sorted(missing)


def test_the_wheel_has_the_packages_and_what_comes_with_them(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        there = set(archive.namelist())
    wanted = {f.relative_to(ROOT).as_posix() for f in project_files() if f.relative_to(ROOT).parts[0] in ROOMS}
    assert not wanted - there, sorted(wanted - there)
    assert {f"{room}/py.typed" for room in ROOMS} <= there
    files = [file.relative_to(ROOT) for file in project_files()]
    shipped = {f"mobilevd/shipped/{file.as_posix()}" for file in files if file.parts[0] in ("configs", "assets")}
    assert len(shipped) > 10 and not shipped - there, sorted(shipped - there)
    outside = {name for name in there if name.split("/")[0] not in ROOMS and ".dist-info/" not in name}
    assert not outside, sorted(outside)


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the wheel, and the dependencies of this one, but not this checkout."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    command = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", built[1]]
    subprocess.run(command, check=True, capture_output=True)
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip())
    # a line of a .pth is put on the path as it is: the links to this checkout in there are not followed
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def test_init_and_the_smoke_run_work_from_any_folder(installed: Path, tmp_path: Path) -> None:
    """Every stage of the method, end to end, as the first thing that somebody does who installed the wheel."""
    # a cache of its own: the program that measures is built from the wheel's sources, and other measurements do not matter
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["MOBILEVD_CACHE"] = str(tmp_path / "cache")

    def call(program: str, *arguments: str) -> str:
        command = [installed / program, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    packages = ", ".join(ROOMS)
    found = call("python", "-c", f"import {packages}\nfor room in ({packages}): print(room.__file__)").splitlines()
    assert all(Path(file).is_relative_to(installed.parent) for file in found) and len(found) == len(ROOMS), found
    assert "next: mobilevd run mine/tiny.yaml" in call("mobilevd", "init", "mine")
    base = "from mobilevd.config import load_config; print(load_config('mine/tiny.yaml').base.model)"
    assert Path(call("python", "-c", base).strip()).is_relative_to(installed.parent)
    told = call("mobilevd", "run", "mine/smoke.yaml", *OVERRIDES)
    run = tmp_path / "runs" / "smoke"
    results = json.loads((run / "results.json").read_text())
    assert len(results["rows"]) == 9 and results["rows"][-1]["host_ms"] > 0
    assert "+ channel funnels" in told and (run / "report.html").stat().st_size > 100_000
    assert not list(run.rglob("*.part"))
    assert "program that measures on this host" in call("mobilevd", "cache", "--clean")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "mine", tmp_path / "runs"]
