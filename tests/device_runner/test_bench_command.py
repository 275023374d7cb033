"""`mobilevd bench` and `mobilevd compare` as a user meets them, on this host."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from device_runner.devices.host import HostDevice
from device_runner.protocol.protocol import PROTOCOLS
from device_runner.protocol.statistics import summarize
from device_runner.results.schema import read_report
from mobilevd.cli import app
from mobilevd.commands.bench import choose_protocol
from mobilevd.errors import UserError
from tests.source import ROOT

Command = Callable[..., Result]


@pytest.fixture
def mobilevd(runner: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line; the runner comes from the cache that it was built into."""
    monkeypatch.setenv("MOBILEVD_CACHE", str(runner.parent.parent))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def quick(*more: Any) -> list[Any]:
    return ["--protocol", "quick", "--threads", "1", *more]


def test_bench_writes_what_it_is_asked_for(mobilevd: Command, bundle: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("r.json", "r.csv", "s.csv", "r.html")}
    options = [
        "--json",
        files["r.json"],
        "--csv",
        files["r.csv"],
        "--samples-csv",
        files["s.csv"],
        "--html",
        files["r.html"],
    ]
    result = mobilevd("bench", bundle, *quick(*options))
    assert result.exit_code == 0, result.output
    assert "small" in result.output and f"written: {files['r.html']}" in result.output
    (measurement,) = read_report(files["r.json"])["measurements"]
    assert measurement["protocol"]["name"] == "quick" and len(measurement["samples_ms"]) == 20
    with files["s.csv"].open() as file:
        assert [float(row["ms"]) for row in csv.DictReader(file)] == pytest.approx(measurement["samples_ms"])
    with files["r.csv"].open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["p50_ms"]) == pytest.approx(measurement["summary"]["p50"])
    assert "<svg" in files["r.html"].read_text()


def test_a_failed_measurement_leaves_the_old_file(mobilevd: Command, bundle: Path, tmp_path: Path) -> None:
    earlier = json.dumps({"measurements": []})
    (tmp_path / "r.json").write_text(earlier)
    (bundle / "unet.pte").write_bytes(b"damaged")
    result = mobilevd("bench", bundle, *quick("--json", tmp_path / "r.json"))
    assert result.exit_code == 2 and "unet.pte" in result.output and "Traceback" not in result.output
    assert (tmp_path / "r.json").read_text() == earlier


def test_compare_finds_a_regression(mobilevd: Command, bundle: Path, tmp_path: Path) -> None:
    assert mobilevd("bench", bundle, *quick("--json", tmp_path / "a.json")).exit_code == 0
    report = json.loads((tmp_path / "a.json").read_text())
    measurement = report["measurements"][0]
    for seed, (name, factor) in enumerate((("a", 1.0), ("slow", 1.2), ("fast", 0.8))):
        samples = [(1 + 0.001 * index) * factor for index in np.random.default_rng(seed).permutation(20)]
        starts = [0.002 * index for index in range(20)]
        measurement.update(samples_ms=samples, starts_s=starts, summary=summarize(samples))
        measurement["figure"]["ms"] = measurement["summary"]["p50"]
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    assert mobilevd("compare", tmp_path / "a.json", tmp_path / "slow.json", "--threshold", "5%").exit_code == 1
    assert mobilevd("compare", tmp_path / "a.json", tmp_path / "slow.json", "--threshold", "30%").exit_code == 0
    result = mobilevd("compare", tmp_path / "a.json", tmp_path / "fast.json", "--json", tmp_path / "c.json")
    assert result.exit_code == 0 and json.loads((tmp_path / "c.json").read_text())
    measurement["protocol"]["threads"] = 4
    (tmp_path / "other.json").write_text(json.dumps(report))
    result = mobilevd("compare", tmp_path / "a.json", tmp_path / "other.json")
    assert result.exit_code == 2 and "threads" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["bench"], "give the folder of a bundle"),
        (["bench", "BUNDLE", "--protocol", "fast"], "unknown protocol 'fast'; known: default, quick, thorough"),
        (["bench", "BUNDLE", "--device", "fridge"], "unknown device 'fridge'; known: host, adb, iphone, all"),
        (["bench", "BUNDLE", "--program", "decoder"], "no program 'decoder'; it has: unet"),
        (["bench", "BUNDLE", "--minutes", "3"], "--minutes goes with --protocol sustained"),
        (["bench", "BUNDLE", "--protocol", "sustained", "--minutes", "1"], "from 2 minutes to a day"),
        (["bench", "BUNDLE", "--cpu-mask", "big"], "cpu_mask must be a hexadecimal mask"),
        (["bench", "BUNDLE", "--load-mode", "magic"], "load_mode must be mmap or file"),
        (["bench", "BUNDLE", "--weight-cache", "yes"], "weight_cache must be off or on, not 'yes'"),
        (["bench", "BUNDLE", "--runner", "abacus"], "unknown runner 'abacus'; known:"),
        (["bench", "BUNDLE", "--runner", "executor_runner"], "say where it lies, --runner executor_runner:FILE"),
        (["bench", "BUNDLE", "--runner", "executor_runner:no/where"], "no/where: there is no executor_runner"),
        (["bench", "BUNDLE", "--runner", "onnxruntime"], "cannot be run by onnxruntime, which runs onnx"),
        (["bench", "BUNDLE", "--runner", "ndk"], "does not run on linux"),
        (["bench", "BUNDLE", "--json", "BUNDLE"], "is a folder; give the name of a file"),
        (["bench", "BUNDLE", "--device", "adb", "--adb", "nowhere/adb"], "--adb is 'nowhere/adb', which is no program"),
        (["bench", "--blocks", "BUNDLE", "--profile"], "--blocks goes with"),
        (["bench", "--blocks", "BUNDLE", "--runner", "mobilevd"], "--blocks goes with"),
        (["bench", "BUNDLE", "--predict", "t.json"], "--predict goes with --blocks MODEL"),
        (["bench", "BUNDLE", "--json", "BUNDLE/manifest.json/r.json"], "r.json: cannot be written"),
        (["bench", "BUNDLE", "--json", "BUNDLE/r", "--csv", "BUNDLE/r"], "is named for two kinds of results"),
        (["bench", "BUNDLE", "--timeout", "inf"], "timeout_s must be"),
        (["compare", "BUNDLE/manifest.json", "BUNDLE/manifest.json"], "manifest.json"),
        (["compare", "nowhere.json", "nowhere.json"], "nowhere.json"),
        (["compare", "nowhere.json", "nowhere.json", "--threshold", "much"], "--threshold takes a share such as 5%"),
    ],
)
def test_a_mistake_is_one_line(mobilevd: Command, bundle: Path, arguments: list[str], text: str) -> None:
    result = mobilevd(*[argument.replace("BUNDLE", str(bundle)) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_profile_comes_with_the_measurement(mobilevd: Command, bundle: Path, tmp_path: Path) -> None:
    result = mobilevd("bench", bundle, *quick("--profile", "--json", tmp_path / "r.json"))
    assert result.exit_code == 0, result.output
    (measurement,) = read_report(tmp_path / "r.json")["measurements"]
    profile = measurement["profile"]
    assert profile["runs"] == 3 and profile["total_ms"] > 0 and profile["outside_delegate_share"] == 0
    assert "Convolution" in profile["by_operator"][0]["operator"] and "Convolution" in result.output
    assert profile["by_block"] is None and "places" in profile["by_block_reason"]  # a partitioner made this program


def test_an_emulated_device_is_not_traced(
    mobilevd: Command, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HostDevice.platform
    monkeypatch.setattr(HostDevice, "platform", lambda device: replace(real(device), emulated="a test says so"))
    result = mobilevd("bench", bundle, *quick("--profile", "--json", tmp_path / "r.json"))
    assert result.exit_code == 0, result.output
    (measurement,) = read_report(tmp_path / "r.json")["measurements"]
    assert measurement["emulated"] and measurement["profile"] is None
    assert any("not traced" in note for note in measurement["notes"]) and "Convolution" not in result.output


def test_a_name_with_markup_is_text(mobilevd: Command, bundle: Path, edit_manifest: Callable[..., None]) -> None:
    edit_manifest(lambda manifest: manifest.update(name="a[/b]c[red]"))
    result = mobilevd("bench", bundle, *quick())
    assert result.exit_code == 0 and "a[/b]c[red]" in result.output


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_bench_that_is_ended_leaves_no_runner(runner: Path, bundle: Path, tmp_path: Path, name: str) -> None:
    import psutil

    command = [sys.executable, "-m", "mobilevd", "bench", str(bundle), "--protocol", "sustained"]
    environment = {**os.environ, "MOBILEVD_CACHE": str(runner.parent.parent), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while not children and time.monotonic() < deadline:
        time.sleep(0.05)
        children = [each for each in psutil.Process(process.pid).children(recursive=True) if each.name() == "runner"]
    process.send_signal(getattr(signal, name))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "stopped" in output, output
    assert children and not any(child.is_running() for child in children)
    assert list(tmp_path.glob("mobilevd-*")) == []


def test_a_reader_that_goes_away_is_no_regression(mobilevd: Command, bundle: Path, tmp_path: Path) -> None:
    """`mobilevd compare A B | head -1`: 1 would say that B is slower."""
    assert mobilevd("bench", bundle, *quick("--json", tmp_path / "a.json")).exit_code == 0
    reading, writing = os.pipe()
    os.close(reading)
    report = json.loads((tmp_path / "a.json").read_text())
    report["measurements"][0]["date"] = "2026-03-01T12:00:00+00:00"
    (tmp_path / "b.json").write_text(json.dumps(report))
    command = [sys.executable, "-m", "mobilevd", "compare", *(str(tmp_path / name) for name in ("a.json", "b.json"))]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


def test_options_change_the_protocol_and_its_name() -> None:
    assert choose_protocol("quick", None, {"iterations": None}) is not None
    assert choose_protocol("quick", None, {"threads": 4}).name == "quick"
    changed = choose_protocol("thorough", None, {"iterations": 3000, "warmup": 1})
    assert changed.name == "thorough (iterations 3000, warmup 1)"
    assert changed.max_iterations == 3000 and changed.confidence == PROTOCOLS["thorough"].confidence
    long = choose_protocol("sustained", 30, {})
    assert long.min_seconds == 1800 and long.timeout_s > 1800
    with pytest.raises(UserError, match="--minutes"):
        choose_protocol("default", 30, {})


def test_measuring_starts_without_torch() -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\n"
        "import mobilevd.commands.bench, mobilevd.commands.devices\n"
        "print(sorted({'torch', 'diffusers', 'scipy', 'matplotlib', 'numpy'} & "
        "{name for name, module in sys.modules.items() if module}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
