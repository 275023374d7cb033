"""The command line: what it calls, exit codes, and no traceback for a user's mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import mobilevd.cli
from device_runner.errors import RunnerError
from eval.protocol_settings import protocol_names
from export.targets import TARGETS
from mobilevd.errors import UserError
from tests.source import ROOT

CONFIG = """\
name: demo
base: {model: PLACE/base, codec: PLACE/codec}
stages:
  - {name: base}
  - {name: low, transforms: [{kind: resolution, height: 32, width: 64}]}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    for name in ("base", "codec"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "demo.yaml").write_text(CONFIG.replace("PLACE", str(tmp_path)))
    return str(tmp_path / "demo.yaml")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What reaches the pipeline, in whose place a module stands that only notes it."""
    noted: list[Any] = []
    module = ModuleType("mobilevd.pipeline")
    for name in ("run", "train_stage", "cache"):
        setattr(module, name, lambda *arguments, name=name: noted.append((name, *arguments)))
    monkeypatch.setitem(sys.modules, "mobilevd.pipeline", module)
    return noted


def invoke(*arguments: str):
    return CliRunner().invoke(mobilevd.cli.app, list(arguments))


def test_run_hands_the_checked_config_on(config: str, calls: list[Any]) -> None:
    result = invoke("run", config, "training.steps=5", "stages.low.training.steps=6")
    assert result.exit_code == 0, result.output
    ((name, resolved, console, *_),) = calls
    assert name == "run" and hasattr(console, "print")
    assert [stage.training.steps for stage in resolved.stages] == [5, 6]


def test_dry_run_prints_the_plan_and_then_what_is_not_there(config: str, calls: list[Any]) -> None:
    result = invoke("run", config, "--dry-run", "seed=7", "base.model=none", "bench.device=fridge")
    assert result.exit_code == 2
    assert "seed: 7" in result.stdout and "#  2. low (low): resolution height=32 width=64" in result.stdout
    first, second = result.stderr.splitlines()
    assert first == "base.model: none: no such model folder"
    assert second.startswith("  bench.device: unknown device 'fridge'")
    assert calls == []


def test_train_and_cache(config: str, calls: list[Any]) -> None:
    assert invoke("train", "low", config).exit_code == 0
    assert invoke("cache", config, "data.fps=3").exit_code == 0
    assert [call[0] for call in calls] == ["train_stage", "cache"]
    assert calls[0][2] == "low" and calls[1][1].data.fps == 3
    result = invoke("train", "loww", config)
    assert result.exit_code == 2 and "did you mean low?" in result.stderr
    assert len(calls) == 2


def test_a_mistake_is_one_line_and_exit_code_2(config: str, calls: list[Any]) -> None:
    result = invoke("run", config, "data.heigth=3")
    assert result.exit_code == 2 and calls == []
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()  # not wrapped, though longer than a terminal is wide
    assert line.startswith("override data.heigth=3: data.heigth: unknown key 'heigth'; did you mean height?")


@pytest.mark.parametrize("error", [UserError("videos: [3] empty"), RunnerError("videos: [3] empty")])
def test_mistakes_found_later(config: str, calls: list[Any], monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(sys.modules["mobilevd.pipeline"], "run", fail)
    result = invoke("run", config)
    assert (result.exit_code, result.stderr) == (2, "videos: [3] empty\n")  # brackets are no markup


def test_a_fault_of_ours_is_one_line_and_tells_more_when_asked(
    config: str, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["mobilevd.pipeline"], "run", lambda *_: 1 / 0)
    result = invoke("run", config)
    assert result.exit_code == 70 and len(result.stderr.splitlines()) == 1
    assert "an error that should not be: ZeroDivisionError: division by zero; " in result.stderr
    assert isinstance(invoke("--traceback", "run", config).exception, ZeroDivisionError)


def test_a_reader_that_goes_away_is_no_fault_of_ours(config: str) -> None:
    command = f"{sys.executable} -m mobilevd run {config} --dry-run base.model=none 2>/dev/null | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert result.stderr == ""


INTERRUPTED = """
import sys, time
from types import ModuleType
module = ModuleType("mobilevd.pipeline")
def run(config, console, trusted, from_stage):
    print("running", flush=True)
    time.sleep(60)
module.run = run
sys.modules["mobilevd.pipeline"] = module
sys.argv = ["mobilevd", "run", sys.argv[1]]
from mobilevd.cli import main
main()
"""


def test_ctrl_c(config: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background of a shell has Ctrl-C switched off, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert child.stdout is not None and child.stdout.readline() == "running\n"
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 130
    assert stderr.strip() == "stopped; give the same command again to go on"


def test_version_and_short_help() -> None:
    assert invoke("--version").stdout == f"mobilevd {mobilevd.__version__}\n"
    assert invoke("-h").stdout == invoke("--help").stdout
    assert invoke("bench", "-h").stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["generate", "--image", "no.png", "--out", "clip.mp4", "--model", "m"], "no.png: no such picture"),
        (["generate", "--image", "PICTURE", "--out", "clip.mp4", "--model", "m"], "m: no such model folder"),
        (["export", "m", "--out", "bundle"], "m: no such model folder"),
        (["flops", "--model", "m"], "m: no such model folder"),
        (["bench", "--blocks", "m"], "m: no such model folder"),
        (["ladder", "m"], "m/config.json: not there; give the folder of a run (`mobilevd run` makes one)"),
        (["report", "picture.png"], "picture.png: is a file; give the folder of a run, which holds results.json"),
        (["evaluate", "--generated", "m", "--reference", "."], "or .tar shards were expected"),
        (["evaluate", "--generated", ".", "--features", "i3d:m.pt"], "--features i3d:m.pt: m.pt does not exist"),
        (["evaluate", "--generated", ".", "--protocol", "motoin"], "stylegan-v, videogpt"),
    ],
)
def test_what_is_not_there_is_told_before_heavy_imports(tmp_path: Path, arguments: list[str], told: str) -> None:
    script = (
        "import sys\nfrom mobilevd.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2, end.code\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'executorch'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    arguments = ["picture.png" if argument == "PICTURE" else argument for argument in arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert told in result.stderr and len(result.stderr.splitlines()) == 1


def test_help_names_every_target_with_its_precisions_and_every_protocol() -> None:
    told = " ".join(invoke("export", "--help").output.split())
    for target in TARGETS.values():
        assert f"{target.name} ({', '.join(target.precisions)})" in told, target.name
    text = re.sub(r"-\s+", "-", invoke("evaluate", "--help").output)  # a name may be broken at its hyphen
    assert all(name in text for name in protocol_names())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_no_heavy_import_before_help(arguments: list[str]) -> None:
    """In a process of its own: torch and the like cost seconds, and rich most of what `--help` may take."""
    result = light(arguments, [*HEAVY, "rich"])
    assert result.returncode == 0, result.stderr
    assert "Usage: " in result.stdout


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_no_heavy_import_before_a_run_is_refused(config: str, dry: list[str]) -> None:
    result = light(["run", config, "base.model=none", *dry], HEAVY)
    assert result.returncode == 2, result.stderr
    assert result.stderr == "base.model: none: no such model folder\n"


@pytest.mark.parametrize("arguments", [["init", "mine"], ["cache", "--list"], ["cache", "--clean"]])
def test_no_heavy_import_for_light_work(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    result = light(arguments, HEAVY)
    assert result.returncode == 0 and result.stdout, result.stderr


HEAVY = ["torch", "numpy", "diffusers", "transformers", "executorch", "av", "matplotlib"]


def light(arguments: list[str], heavy: list[str]) -> subprocess.CompletedProcess[str]:
    """The command in a process that fails if it imported one of these."""
    script = (
        "import sys\nfrom mobilevd.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    assert not {set(heavy)} & set(sys.modules), {set(heavy)} & set(sys.modules)\n"
    )
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)


def test_the_module_and_the_program_are_the_same() -> None:
    command = [sys.executable, "-m", "mobilevd", "no-such-command"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "No such command 'no-such-command'" in result.stderr


def test_report_of_a_run_that_is_not_done(tmp_path: Path) -> None:
    result = invoke("report", str(tmp_path))
    assert result.exit_code == 2 and "results.json: not there" in result.stderr
    (tmp_path / "results.json").write_text("{")
    result = invoke("report", str(tmp_path))
    assert result.exit_code == 2 and "results.json: not JSON" in result.stderr


def test_report(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"name": "demo", "rows": [{"name": "base", "nfe": 50}]}))
    result = invoke("report", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "base" in result.output and "base" in (tmp_path / "report.md").read_text()


def test_flops_hands_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, noted = ModuleType("mobilevd.commands.flops"), []
    monkeypatch.setattr(module, "flops_command", lambda *arguments: noted.append(arguments), raising=False)
    monkeypatch.setitem(sys.modules, "mobilevd.commands.flops", module)
    (tmp_path / "config.json").write_text("{}")
    arguments = ["--model", str(tmp_path), "--frames", "8", "--height", "16", "--width", "32", "--json", "f.json"]
    assert invoke("flops", *arguments).exit_code == 0
    ((model, json_file, console, *size),) = noted
    assert (model, json_file, size) == (tmp_path, Path("f.json"), [8, 16, 32]) and hasattr(console, "print")


def test_bench_of_no_bundle(tmp_path: Path) -> None:
    result = invoke("bench", str(tmp_path / "nothing"))
    assert result.exit_code == 2 and "nothing" in result.stderr and "Traceback" not in result.output


def test_evaluate_without_videos(tmp_path: Path) -> None:
    result = invoke("evaluate", "--generated", str(tmp_path), "--reference", str(tmp_path))
    assert result.exit_code == 2 and "no video file in it" in result.stderr
