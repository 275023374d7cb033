"""A run and its rehearsal refuse the same things, in the same words, before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from device_runner.devices.host import HostDevice
from device_runner.devices.job import Platform
from mobilevd.cli import app
from mobilevd.shipped import SHIPPED

TINY = SHIPPED / "assets" / "tiny"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of one stage that would work, in a folder of its own."""
    shutil.copytree(TINY / "base", tmp_path / "base")
    shutil.copytree(TINY / "codec", tmp_path / "codec")
    values = {
        "name": "checked",
        "output": str(tmp_path / "out"),
        "base": {"model": str(tmp_path / "base"), "codec": str(tmp_path / "codec")},
        "data": {"num_frames": 8, "height": 48, "width": 96, "fps": 7, "scenes": {"train": 4, "test": 2}},
        "stages": [{"name": "small", "transforms": [{"kind": "resolution", "height": 32, "width": 64}]}],
        "evaluation": {"clips": 2, "height": 32, "width": 64, "features": "motion"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "run.yaml"


def refusals(config: Path, *overrides: str) -> str:
    """What run and dry run refuse, which is the same, while no file comes, goes or changes."""
    before = {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")}
    told = []
    for options in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, ["run", str(config), *options, *overrides])
        assert result.exit_code == 2, result.output
        told.append(result.stderr)
    assert {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")} == before
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.width=92 data.height=46", "not divisible by"),
        ("data.num_frames=0", "data.num_frames"),
        ("base.codec=nowhere", "base.codec: nowhere does not exist"),
        ("data.videos=nowhere", "data.videos: nowhere does not exist"),
        ("data.reference_videos=nowhere", "data.reference_videos: nowhere does not exist"),
        ("evaluation.features=i3d:nowhere.pt", "evaluation.features: nowhere.pt does not exist"),
        ("evaluation.features=nonsense", "feature extractor 'nonsense': unknown"),
        ("bench.device=fridge", "bench.device: unknown device 'fridge'"),
        ("export.precision=int3", "has no precision 'int3'"),
        ("export.target=onxx", "export.target: unknown target 'onxx'; known are"),
        (
            "export.target=onnx:fp16 export.precision=fp16",
            "export.target: onnx:fp16 names a precision, and export.precision",
        ),
        ("export.also=[executorch-qnn]", "target executorch-qnn needs Qualcomm's SDK"),
        ("bench.device=adb:nobody", "nobody"),
        ("tracking.trackers=[wandb]", "wandb"),
    ],
)
def test_what_the_configuration_asks_for(config: Path, override: str, told: str) -> None:
    assert told in refusals(config, *override.split())


def test_weights_that_are_another_models(config: Path) -> None:
    file = config.parent / "base" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:16].contiguous()
    save_file(tensors, file)
    assert "another architecture: conv_in.weight has shape (16," in refusals(config)
    file.unlink()
    assert "base: no weights" in refusals(config)


def test_a_codec_of_another_model(config: Path) -> None:
    file = config.parent / "base" / "config.json"
    values: dict[str, Any] = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "cross_attention_dim": 64}))
    assert "another architecture" in refusals(config)


def test_files_in_the_way(config: Path) -> None:
    out = config.parent / "out"
    (out / "01-small").mkdir(parents=True)
    (out / "01-small" / "thesis.txt").write_text("mine")
    (out / "report.html").write_text("<html>mine</html>")
    told = refusals(config)
    assert "report.html: is not replaced" in told and "01-small: is in the way" in told  # both at once


def test_a_machine_that_cannot_measure(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler to build the runner with; looked for $CXX (no-such-compiler)" in refusals(config)
    for passes in ("export.stages=none export.also=[executorch-qnn]", "export.target=onnx:fp16"):
        result = CliRunner().invoke(app, ["run", str(config), "--dry-run", *passes.split()])
        assert result.exit_code == 0, result.output


def test_a_phone_without_a_runner(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = SimpleNamespace(name="adb:phone", platform=lambda: Platform("android", "arm64-v8a"))
    monkeypatch.setattr("mobilevd.pipeline.checks.open_device", lambda name: HostDevice() if name == "host" else phone)
    monkeypatch.setattr("mobilevd.quick_checks.open_device", lambda name: phone)
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "cache"))
    assert "no runner for Android on arm64-v8a has been built: mobilevd build-runner" in refusals(
        config, "bench.device=adb"
    )
    other = ("bench.device=adb", "export.target=executorch-coreml", "export.precision=fp16")
    assert "no runner measures programs of executorch-coreml on adb:phone" in refusals(config, *other)
