"""The runner builds from its one source, once, and every way to fail is one clear line."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from device_runner import build
from device_runner.errors import RunnerError


def test_a_second_build_comes_from_the_cache(runner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_compile", lambda *arguments, **options: pytest.fail("compiled again"))
    written = runner.stat().st_mtime_ns
    start = time.perf_counter()
    assert build.build_host_runner(runner.parent.parent) == runner
    assert time.perf_counter() - start < 1
    assert runner.stat().st_mtime_ns == written


def test_the_build_says_what_it_was_made_of(runner: Path) -> None:
    record = json.loads((runner.parent / "build.json").read_text())
    assert record["executorch"].startswith("1.")
    assert record["compiler_version"] and record["source_sha256"]
    assert [path.name for path in runner.parent.parent.iterdir()] == [runner.parent.name], "nothing else is left"


def test_another_source_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = build.find_toolchain().key
    changed = tmp_path / "runner.cpp"
    changed.write_text(build.SOURCE.read_text() + "// changed\n")
    monkeypatch.setattr(build, "SOURCE", changed)
    assert build.find_toolchain().key != key


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path))
    assert build.default_cache_dir() == tmp_path
    monkeypatch.delenv("MOBILEVD_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.default_cache_dir() == tmp_path / ".cache" / "mobilevd"


def test_no_compiler_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RunnerError) as caught:
        build.build_host_runner(tmp_path)
    for text in ("no C++ compiler", "$CXX", "c++", "g++", "clang++", "apt-get install g++"):
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chosen_compiler_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(RunnerError, match=r"\$CXX \(no-such-compiler\)"):
        build.build_host_runner(tmp_path)


def test_a_chosen_compiler_comes_first_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "c++ -DCHOSEN")
    assert build.find_toolchain().compiler.endswith("c++ -DCHOSEN")


def test_a_compile_error_shows_its_first_line_and_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main() { return missing_name; }\n")
    monkeypatch.setattr(build, "SOURCE", broken)
    cache = tmp_path / "cache"
    with pytest.raises(RunnerError, match="error: .*missing_name") as caught:
        build.build_host_runner(cache)
    assert "\n" not in str(caught.value)
    logs = list(cache.glob("*.log"))
    assert len(logs) == 1 and str(logs[0]) in str(caught.value)
    assert "broken.cpp" in logs[0].read_text()
    assert list(cache.iterdir()) == logs, "a failed build leaves nothing that looks like a runner"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunnerError, match="MOBILEVD_CACHE"):
        build.build_host_runner(tmp_path / "file")


def run(runner: Path, *arguments: str) -> tuple[int, dict[str, str]]:
    result = subprocess.run([str(runner), *arguments], capture_output=True, text=True)
    return result.returncode, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--model FILE is missing"),
        (["--model"], "--model needs a value"),
        (["--colour", "red"], "unknown argument '--colour'"),
        (["--iterations", "0"], "--iterations takes a whole number from 1, not '0'"),
        (["--warmup", "3x"], "--warmup takes a whole number from 0, not '3x'"),
        (["--model", "a", "--output-dir", "b"], "--threads N is missing"),
        (["--model", "a", "--output-dir", "b", "--threads", "1", "--load-mode", "x"], "mmap or file"),
    ],
)
def test_the_runner_refuses_wrong_arguments(runner: Path, arguments: list[str], text: str) -> None:
    exit_code, event = run(runner, *arguments)
    assert (exit_code, event["event"], event["stage"]) == (1, "error", "arguments")
    assert text in event["message"]


def common(bundle: Path) -> list[str]:
    return ["--output-dir", str(bundle), "--threads", "1", "--warmup", "0", "--iterations", "1"]


def inputs(bundle: Path, *names: str) -> list[str]:
    return [part for name in names for part in ("--input", str(bundle / "reference" / f"unet.{name}.bin"))]


def test_the_runner_names_what_is_wrong_with_the_inputs(runner: Path, bundle: Path) -> None:
    model = ["--model", str(bundle / "unet.pte")]
    exit_code, event = run(runner, *model, *common(bundle), *inputs(bundle, "image"))
    assert (exit_code, event["stage"]) == (1, "inputs")
    assert "takes 2 inputs, 1 were given" in event["message"]
    exit_code, event = run(runner, *model, *common(bundle), *inputs(bundle, "scale", "image"))
    assert (exit_code, event["stage"]) == (1, "inputs")
    assert "32 bytes" in event["message"] and "float32 [1,3,16,16], 3072 bytes" in event["message"]
    exit_code, event = run(runner, *model, *common(bundle), *inputs(bundle, "image", "nothing"))
    assert exit_code == 1 and "No such file" in event["message"]


def test_the_runner_names_what_is_wrong_with_the_program(runner: Path, bundle: Path) -> None:
    exit_code, event = run(runner, "--model", "/nowhere.pte", *common(bundle))
    assert (exit_code, event["stage"]) == (1, "load")
    assert "/nowhere.pte: No such file" in event["message"]
    exit_code, event = run(runner, "--model", str(bundle / "manifest.json"), *common(bundle))
    assert (exit_code, event["stage"]) == (1, "load")
    assert "could not be loaded" in event["message"]
    exit_code, event = run(runner, "--model", str(bundle / "unet.pte"), "--method", "decode", *common(bundle))
    assert (exit_code, event["stage"]) == (1, "load")
    assert "no method 'decode'; it has: forward" in event["message"]


def test_the_runner_says_when_it_cannot_write(runner: Path, bundle: Path) -> None:
    arguments = [*common(bundle), *inputs(bundle, "image", "scale")]
    arguments[1] = str(bundle / "missing")
    exit_code, event = run(runner, "--model", str(bundle / "unet.pte"), *arguments)
    assert (exit_code, event["stage"]) == (1, "output")
    assert "could not be written" in event["message"]


def test_strange_names_survive_as_json(runner: Path, bundle: Path) -> None:
    exit_code, event = run(runner, "--model", 'a"b\\c\nd', *common(bundle))
    assert exit_code == 1 and event["message"].startswith('a"b\\c\nd: ')
