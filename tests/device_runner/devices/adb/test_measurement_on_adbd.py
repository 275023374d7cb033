"""Our runner and a real program on a genuine adbd: what a phone would go through, with this machine's processor."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from device_runner.bundle.read import read_bundle
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Platform
from device_runner.errors import RunnerError
from device_runner.measure.bench import Work, bench
from device_runner.measure.measure import Measurement, measure
from device_runner.measure.trace import take_trace
from device_runner.protocol.protocol import Protocol
from device_runner.results.schema import read_report
from device_runner.runners.deployment import glibc_deployment
from device_runner.runners.mobilevd import MobilevdRunner
from mobilevd.cli import app
from tests.device_runner.devices.adb.conftest import Phone, later

SHORT = Protocol(warmup=2, iterations=5, threads=1)
LONG = replace(SHORT, min_seconds=2.5)


@pytest.fixture(scope="session")
def glibc_runner(tmp_path_factory: pytest.TempPathFactory) -> MobilevdRunner:
    """For Linux devices of this machine's kind, built once."""
    platform = HostDevice().platform()
    if platform.system != "linux":
        pytest.skip(f"there is no glibc runner for {platform.system}")
    return MobilevdRunner(glibc_deployment(platform.abi, tmp_path_factory.mktemp("cache")))


@pytest.fixture(params=["adb-29", "adb-36"])
def phone(request: pytest.FixtureRequest, make_phone: Callable[..., Phone]) -> Phone:
    return make_phone(request.param)


Measure = Callable[..., Measurement]


@pytest.fixture
def measure_on(glibc_runner: MobilevdRunner, bundle: Path) -> Measure:
    def run(phone: Phone, protocol: Protocol = SHORT, **options: Any) -> Measurement:
        return measure(bundle, phone.device, protocol, runner=glibc_runner, **options)

    return run


def test_a_measurement_with_everything(phone: Phone, measure_on: Measure) -> None:
    mask = f"{1 << min(os.sched_getaffinity(0)):x}"
    protocol = replace(
        LONG, cold_loads=2, memory_pass=True, sample_state_s=0.5, cpu_mask=mask, confidence=0.5, max_seconds=10
    )
    result = measure_on(phone, protocol)
    assert result.device["name"] == f"adb:{phone.serial}" and result.device["kind"] == "adb"
    assert result.device["platform"] == {"system": "linux", "abi": HostDevice().platform().abi, "emulated": None}
    assert len(result.samples_ms) >= 5 and result.starts_s[-1] > 2 and len(result.loads_ms) == 3
    assert result.outputs[0]["psnr_db"] is None or result.outputs[0]["psnr_db"] >= 100
    assert result.memory["peak_rss_bytes"] > 1e6
    assert len(result.series) >= 3
    first, last = result.series[0]["uptime_s"], result.series[-1]["uptime_s"]
    assert result.first_start_uptime_s is not None and first < result.first_start_uptime_s + 3 and last > first
    assert result.versions["adb"] and result.versions["executorch"]
    assert result.transfer["pushed_bytes"] > 1e6 and not result.transfer["taken_up"]
    assert any("adb 29" in note for note in result.notes) == (phone.device.warning is not None)
    again = measure_on(phone)
    assert again.transfer["pushed_bytes"] == 0 and again.transfer["kept_bytes"] == result.transfer["pushed_bytes"]
    assert phone.listing("runs") == [] and phone.processes("runner --model") == []


def test_outputs_that_are_not_the_reference_are_refused(
    real_phone: Phone,
    measure_on: Measure,
    bundle: Path,
    edit_manifest: Callable[..., None],
    reference_output: np.ndarray,
) -> None:
    reference_output[7] += 0.05
    reference_output.tofile(bundle / "reference" / "unet.latents.bin")
    edit_manifest(rehash=True)
    with pytest.raises(RunnerError, match=f"adb:{real_phone.serial}: output 'latents' is not the bundle's reference"):
        measure_on(real_phone)
    assert real_phone.listing("runs") == []


def test_a_cable_that_is_pulled_costs_nothing(phone: Phone, measure_on: Measure) -> None:
    later(1.2, phone.drop)
    later(2.2, phone.restore)
    result = measure_on(phone, LONG)
    assert result.transfer["reconnects"] >= 1
    assert result.starts_s[-1] + result.samples_ms[-1] / 1e3 >= 2.5


def test_a_runner_that_is_killed_is_no_result(real_phone: Phone, measure_on: Measure) -> None:
    # By the name of the running program: the shell that writes the job has the whole command in its own arguments.
    kill_runner = "for p in /proc/[0-9]*; do grep -q ^ld-linux $p/comm && kill -KILL ${p#/proc/} && echo killed; done"

    def kill() -> None:
        for _ in range(100):
            time.sleep(0.05)
            if "killed" in real_phone.sh(kill_runner):
                return

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(RunnerError, match="killed by SIGKILL|ended on the device from outside"):
        measure_on(real_phone, LONG)
    assert real_phone.listing("runs") == []


def test_two_phones_at_once(
    make_phone: Callable[..., Phone], glibc_runner: MobilevdRunner, bundle: Path, tmp_path: Path
) -> None:
    """One worker each; the one that dies leaves the other's result."""
    good, bad = make_phone("adb-36"), make_phone("adb-36", size="8m")
    work = Work([read_bundle(bundle)], SHORT, runner=glibc_runner)
    report = bench(work, [good.device, bad.device]).report
    assert [each["device"]["name"] for each in report["measurements"]] == [good.device.name]
    (failure,) = report["failures"]
    assert failure["device"] == bad.device.name and "MB" in failure["error"]
    (tmp_path / "report.json").write_text(json.dumps(report, allow_nan=False))
    assert read_report(tmp_path / "report.json")["failures"] == [failure]


def test_all_phones_by_command(
    make_phone: Callable[..., Phone], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user types, twice: the second time nothing is pushed."""
    first, second = make_phone("adb-36"), make_phone("adb-36")
    second.daemon.connect(first.program)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("a", "b"):
        options = ["--device", "all", "--adb", str(first.program), "--protocol", "quick", "--profile"]
        files = ["--json", str(tmp_path / f"{name}.json"), "--html", str(tmp_path / f"{name}.html")]
        result = CliRunner().invoke(app, ["bench", str(bundle), *options, *files])
        assert result.exit_code == 0, result.output
        measured = {each["device"]["name"]: each for each in read_report(tmp_path / f"{name}.json")["measurements"]}
        assert set(measured) == {first.device.name, second.device.name}
        for each in measured.values():
            assert each["profile"]["total_ms"] > 0 and len(each["samples_ms"]) == 20
            assert (each["transfer"]["pushed_bytes"] == 0) == (name == "b")
        assert first.device.name in (tmp_path / f"{name}.html").read_text()
    compared = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    # a busy machine may well have become slower, or too unsteady to tell
    assert compared.exit_code in (0, 1, 3), compared.output
    assert all(device.device.name in compared.output for device in (first, second))
    cleaned = CliRunner().invoke(app, ["devices", "--adb", str(first.program), "--clean", first.serial])
    assert cleaned.exit_code == 0 and first.listing("files") == [] and second.listing("files") != []


def test_a_trace_comes_back(real_phone: Phone, glibc_runner: MobilevdRunner, bundle: Path, tmp_path: Path) -> None:
    read = read_bundle(bundle)
    dump = take_trace(read, read.program("unet"), real_phone.device, SHORT, glibc_runner, tmp_path)
    from executorch.devtools import Inspector

    (block,) = [block for block in Inspector(etdump_path=str(dump)).event_blocks if block.name == "Execute"]
    method = next(event for event in block.events if event.name == "Method::execute")
    assert method.perf_data is not None and len(method.perf_data.raw) == 3


def test_an_emulated_device_gives_outputs_but_no_latency(
    real_phone: Phone, measure_on: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = replace(real_phone.device.platform(), emulated="the processor is another than the program's")
    monkeypatch.setattr(type(real_phone.device), "platform", lambda device: seen)
    result = measure_on(real_phone)
    assert result.emulated and result.outputs and result.samples_ms == [] and result.figure is None


def test_a_phone_gets_the_runner_of_its_kind(real_phone: Phone, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Android takes the one built with the NDK, and says how to build it where there is none."""
    android = Platform("android", "arm64-v8a")
    monkeypatch.setattr(type(real_phone.device), "platform", lambda device: android)
    with pytest.raises(RunnerError, match="mobilevd build-runner --abi arm64-v8a --executorch DIR --ndk DIR"):
        measure(bundle, real_phone.device, SHORT)
