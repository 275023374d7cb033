"""The runner builds from its one source, once, and every way to fail is one clear line."""

import json
import shutil
import time
from pathlib import Path

import pytest

from device_runner.building import host, toolchain
from device_runner.building.cache import default_cache_dir
from device_runner.building.command import build_runner_command, describe_built
from device_runner.building.host import build_host_runner
from device_runner.building.toolchain import find_toolchain
from device_runner.errors import RunnerError
from device_runner.runners.deployment import host_deployment


def test_a_second_build_comes_from_the_cache(runner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "compile_runner", lambda *arguments, **options: pytest.fail("compiled again"))
    written = runner.stat().st_mtime_ns
    start = time.perf_counter()
    assert build_host_runner(runner.parent.parent) == runner
    assert time.perf_counter() - start < 1
    assert runner.stat().st_mtime_ns == written


def test_the_build_says_what_it_was_made_of(runner: Path) -> None:
    record = json.loads((runner.parent / "build.json").read_text())
    assert record["executorch"].startswith("1.")
    assert record["compiler_version"] and record["source_sha256"]
    assert [path.name for path in runner.parent.parent.iterdir() if path.is_dir()] == [runner.parent.name], (
        "nothing else is left"
    )


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runner's source that a test may change, in its place."""
    folder = Path(shutil.copytree(toolchain.SOURCE_FOLDER, tmp_path / "runner"))
    monkeypatch.setattr(toolchain, "SOURCE_FOLDER", folder)
    return folder


@pytest.mark.parametrize("file", ["runner.cpp", "stop_rule.h"])
def test_another_source_is_another_build(sources: Path, file: str) -> None:
    key = find_toolchain().key
    with (sources / file).open("a") as source:
        source.write("// changed\n")
    assert find_toolchain().key != key


def test_versions_of_a_built_runner_are_known(runner: Path) -> None:
    deployment = host_deployment(runner)
    assert deployment.command == (str(runner),) and not deployment.files and deployment.backends == {"xnnpack"}
    assert set(deployment.versions) == {"executorch", "compiler", "runner_source_sha256"}


def test_building_for_the_host_by_command(tmp_path: Path) -> None:
    planned = build_runner_command(cache_dir=tmp_path, dry_run=True)
    assert planned.dry_run and not list(tmp_path.iterdir())
    built = build_runner_command(cache_dir=tmp_path)
    assert (built.folder, built.files, built.from_cache) == (planned.folder, ("runner",), False)
    assert build_runner_command(cache_dir=tmp_path).from_cache
    assert "1 files" in describe_built(built)[0]


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("MOBILEVD_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "mobilevd"


def test_no_compiler_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RunnerError) as caught:
        build_host_runner(tmp_path)
    for text in ("no C++ compiler", "$CXX", "c++", "g++", "clang++", "apt-get install g++"):
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chosen_compiler_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(RunnerError, match=r"\$CXX \(no-such-compiler\)"):
        build_host_runner(tmp_path)


def test_a_chosen_compiler_comes_first_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "c++ -DCHOSEN")
    assert find_toolchain().compiler.endswith("c++ -DCHOSEN")


def test_a_compile_error_shows_its_first_line_and_the_log(tmp_path: Path, sources: Path) -> None:
    (sources / "runner.cpp").write_text("int main() { return missing_name; }\n")
    cache = tmp_path / "cache"
    with pytest.raises(RunnerError, match="error: .*missing_name") as caught:
        build_host_runner(cache)
    assert "\n" not in str(caught.value)
    logs = list(cache.glob("*.log"))
    assert len(logs) == 1 and str(logs[0]) in str(caught.value)
    assert "runner.cpp" in logs[0].read_text()
    assert list(cache.iterdir()) == logs, "a failed build leaves nothing that looks like a runner"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunnerError, match="MOBILEVD_CACHE"):
        build_host_runner(tmp_path / "file")
