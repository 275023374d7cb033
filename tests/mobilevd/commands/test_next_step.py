"""The line at the end of a command: a person at a terminal sees it, and it names commands that are there."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from mobilevd.cli import app
from mobilevd.commands import next_step
from mobilevd.config.schema import RunConfig
from tests.source import ROOT


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_step, "_on_terminal", lambda: True)


def commands(text: str | None) -> list[str]:
    return re.findall(r"\bmobilevd ([a-z-]+)", text or "")


def run_folder(place: Path, nfe: int) -> RunConfig:
    """A finished run, as far as its next step goes."""
    folder = place / "07-fun nels"
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle" / "manifest.json").write_text("{}")
    rows = [{"name": "base", "folder": "00-base"}, {"name": "last", "folder": folder.name, "nfe": nfe}]
    (place / "results.json").write_text(json.dumps({"rows": rows}))
    return cast(RunConfig, SimpleNamespace(output=place))


def test_after_a_run(tmp_path: Path) -> None:
    told = next_step.after_run(run_folder(tmp_path / "one", 1))
    assert told == (
        f"open {tmp_path}/one/report.html; mobilevd export '{tmp_path}/one/07-fun nels/model' --out BUNDLE for a phone's "
        f"whole path; mobilevd bench '{tmp_path}/one/07-fun nels/bundle' --device adb"
    )
    assert commands(next_step.after_run(run_folder(tmp_path / "more", 25))) == ["bench"]  # it has no one-step model
    assert next_step.after_run(cast(RunConfig, SimpleNamespace(output=tmp_path))) is None


def test_after_an_export(tmp_path: Path) -> None:
    def manifests(**targets: str) -> dict[str, Any]:
        return {name: SimpleNamespace(target=target.replace("_", "-")) for name, target in targets.items()}

    (tmp_path / "manifest.json").write_text("{}")
    assert next_step.after_export(tmp_path, manifests(x="onnx")) == f"mobilevd bench {tmp_path}"
    out = Path("out")
    told = next_step.after_export(out, manifests(a="onnx", b="executorch_xnnpack", c="coreml", d="executorch_vulkan"))
    assert told == (
        "mobilevd bench out/a out/b; mobilevd bench out/c --device iphone; mobilevd bench out/d --device adb"
    )
    assert next_step.after_export(out, {}) is None


def test_every_command_that_is_named_is_there(tmp_path: Path) -> None:
    known = set(cast(Any, typer.main.get_command(app)).commands)
    told = [
        next_step.after_preparing(Path("a.yaml"), ["name=my run"], "funnels"),
        next_step.after_bench(None),
        next_step.after_bench(Path("a.json")),
        next_step.after_compare(1),
        next_step.after_compare(3),
        next_step.after_generate(None, tmp_path),
        next_step.after_build_runner("host", False),
        next_step.after_doctor(),
    ]
    assert told[0] == "mobilevd run a.yaml 'name=my run' --from funnels"
    assert told[2] == "mobilevd compare a.json LATER.json tells whether a later result is slower"
    assert next_step.after_compare(0) is None
    assert all(commands(each) for each in told)
    assert {name for each in told for name in commands(each)} <= known
    assert next_step.after_build_runner("arm64-v8a", True) == "mobilevd bench BUNDLE --device adb --runner glibc"
    (tmp_path / "03-funnels" / "model").mkdir(parents=True)
    ladder = next_step.after_ladder(tmp_path, "funnels")
    assert ladder and f"export {tmp_path}/03-funnels/model --target" in ladder


def test_a_model_of_several_steps_is_not_exported() -> None:
    assert next_step.after_generate(ROOT / "assets" / "tiny" / "base", None) is None


def test_it_is_told_once_and_on_a_terminal_alone(
    shown: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    next_step.tell_next("look [at] it")
    assert capsys.readouterr().out == "next: look [at] it\n"
    next_step.tell_next(None)
    monkeypatch.setenv("RANK", "1")
    next_step.tell_next("look")
    monkeypatch.delenv("RANK")
    monkeypatch.undo()
    next_step.tell_next("look")
    assert capsys.readouterr().out == ""


def test_the_command_line_tells_it(shown: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilevd.commands.compare.compare_files", lambda *arguments: 3)
    result = CliRunner().invoke(app, ["compare", "a.json", "b.json"])
    assert result.exit_code == 3 and "next: mobilevd bench BUNDLE --protocol thorough" in result.stdout
    monkeypatch.setattr("mobilevd.commands.bench.bench_bundles", lambda *arguments: 0)
    result = CliRunner().invoke(app, ["bench", str(tmp_path), "--json", "r.json"])
    assert result.exit_code == 0 and "next: mobilevd compare r.json LATER.json" in result.stdout
    monkeypatch.setattr("mobilevd.commands.bench.bench_bundles", lambda *arguments: 1)
    assert "next:" not in CliRunner().invoke(app, ["bench", str(tmp_path)]).stdout


def test_a_terminal_and_a_pipe() -> None:
    script = "from mobilevd.commands.next_step import tell_next; tell_next('look')"
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, "FORCE_COLOR": "1"}).stdout == b""
    ours, theirs = pty.openpty()
    subprocess.run(command, cwd=ROOT, stdout=theirs, check=True)
    os.close(theirs)
    assert b"next: look" in os.read(ours, 1000)
    os.close(ours)
