"""A run measures each row's bundle once, and again when anything about it is another."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device_runner.devices.host import HostDevice
from device_runner.runners.deployment import host_deployment
from device_runner.runners.mobilevd import MobilevdRunner
from mobilevd.config.schema import BenchSettings, ExportSettings
from mobilevd.pipeline import export_and_measure as pipeline_device
from mobilevd.pipeline.export_and_measure import measure_entry


class Phone(HostDevice):
    """This machine, as a phone of some name and build."""

    def __init__(self, name: str = "adb:A", fingerprint: str = "build 1") -> None:
        self.name, self.fingerprint = name, fingerprint

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "fingerprint": self.fingerprint}


@pytest.fixture
def measured(runner: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Measure on a phone; returns the result and how often something was measured so far."""
    calls: list[str] = []
    real = pipeline_device.measure

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments[1].name)
        return real(*arguments, runner=MobilevdRunner(host_deployment(runner)), **options)

    monkeypatch.setattr(pipeline_device, "measure", counting)
    entry: Any = SimpleNamespace(folder=bundle.parent)

    def run(phone: HostDevice | None = None, **settings: Any) -> tuple[dict[str, Any], int]:
        config: Any = SimpleNamespace(
            bench=BenchSettings(warmup=1, iterations=3, threads=1, **settings), export=ExportSettings()
        )
        if phone is None:
            return measure_entry(config, entry), len(calls)
        monkeypatch.setattr(pipeline_device, "open_device", lambda name: phone)
        return measure_entry(config, entry, "adb"), len(calls)

    return run


def test_a_measurement_is_kept(measured: Any) -> None:
    first, count = measured()
    again, still = measured()
    assert count == still == 1 and again == first and len(first["samples_ms"]) == 3


def test_measured_again_the_calmer_of_the_two_stays(
    measured: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured()
    file = bundle.parent / "bench.json"
    kept = json.loads(file.read_text())
    # what concerns no median does not count: two such warnings are calmer than one doubt
    real, told = pipeline_device.measure, ["outliers: few", "busy: too"]
    monkeypatch.setattr(pipeline_device, "measure", lambda *a, **o: replace(real(*a, **o), warnings=list(told)))
    entry: Any = SimpleNamespace(folder=bundle.parent)
    config: Any = SimpleNamespace(bench=BenchSettings(warmup=1, iterations=3, threads=1), export=ExportSettings())
    file.write_text(json.dumps({**kept, "warnings": ["busy: a little"]}))
    assert measure_entry(config, entry, again=True)["warnings"] == ["busy: a little"]
    file.write_text(json.dumps({**kept, "warnings": ["noisy: very"]}))
    assert measure_entry(config, entry, again=True)["warnings"] == told
    assert json.loads(file.read_text())["warnings"] == told


def test_a_file_that_is_damaged_is_measured_anew(measured: Any, bundle: Path) -> None:
    measured()
    for text in ("{", "[]", "{}", json.dumps({"device": {"name": "host"}})):
        (bundle.parent / "bench.json").write_text(text)
        result, _ = measured()
        assert len(result["samples_ms"]) == 3


def test_another_bundle_is_measured_anew(measured: Any, edit_manifest: Any) -> None:
    before, _ = measured()
    edit_manifest(lambda manifest: manifest.update(name="another"))
    after, count = measured()
    assert count == 2 and before["bundle"]["name"] == "small" and after["bundle"]["name"] == "another"


def test_a_phones_result_is_that_phones(measured: Any, bundle: Path) -> None:
    host, _ = measured()
    first, count = measured(Phone())
    assert count == 2 and first["device"]["name"] == "adb:A" and (bundle.parent / "bench-device.json").is_file()
    assert measured(Phone())[1] == 2
    assert measured(Phone(fingerprint="build 2"))[1] == 3
    assert measured(Phone("adb:AB"))[1] == 4
    assert json.loads((bundle.parent / "bench.json").read_text()) == host


def test_the_bar_tells_what_the_device_does(runner: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipeline_device.measure
    deployed = MobilevdRunner(host_deployment(runner))
    monkeypatch.setattr(pipeline_device, "measure", lambda *a, **o: real(*a, runner=deployed, **o))
    entry: Any = SimpleNamespace(folder=bundle.parent)
    config: Any = SimpleNamespace(bench=BenchSettings(warmup=1, iterations=7, threads=1), export=ExportSettings())
    told: list[str] = []
    measure_entry(config, entry, progress=lambda text, share: told.append(text))
    assert any("of 7" in text or "loading" in text for text in told), told
