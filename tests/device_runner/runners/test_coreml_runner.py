"""Core ML's flow with stand-ins of coremltools' interface; that the interface is the installed package's is checked."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from device_runner.bundle.read import BundleProgram
from device_runner.devices import iphone as coreml_device
from device_runner.devices.iphone import IphoneDevice
from device_runner.devices.job import Platform, RawRun
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import PROTOCOLS, Protocol
from device_runner.runners.coreml import TEAM, CoremlRunner
from device_runner.runners.coreml_worker import measure, parse_arguments
from device_runner.runners.worker import Failure

MAC, IPHONE = Platform("macos", "arm64-v8a"), Platform("ios", "arm64-v8a")
SHORT = Protocol(warmup=1, iterations=3)
RunSteps = Callable[..., Mapping[str, RawRun]]

# The part of coremltools that the worker uses. Its predictions add the inputs; loads take 80 ms, runs 5, 6, 7 ... ms. It
# prints where it should not, as native libraries do.
STAND_IN = {
    "__init__.py": """
import enum
from types import SimpleNamespace as Space
class ComputeUnit(enum.Enum):
    ALL = 1
    CPU_AND_NE = 2
    CPU_AND_GPU = 3
    CPU_ONLY = 4
kind = Space(FLOAT32=65568, FLOAT16=65552, DOUBLE=65600, INT32=131104)
proto = Space(FeatureTypes_pb2=Space(ArrayFeatureType=Space(ArrayDataType=kind)))
""",
    "models/__init__.py": """
import os
from types import SimpleNamespace as Space
class MLModel:
    def __init__(self, path, compute_units, skip_model_load):
        assert skip_model_load and os.path.isfile(os.path.join(path, "Manifest.json")), path
        self.weights_dir, self.compute_unit = path + "/weights", compute_units
    def get_spec(self):
        array = Space(multiArrayType=Space(dataType=65568, shape=[3]))
        return Space(description=Space(input=[Space(name=name, type=array) for name in ("first", "second")]))
""",
    "models/ml_program/__init__.py": "",
    "models/ml_program/experimental/__init__.py": "",
    "models/ml_program/experimental/perf_utils.py": """
import os, time
from types import SimpleNamespace as Space
class MLModelBenchmarker:
    def __init__(self, model, device=None):
        self.runs = 0
    async def benchmark_load(self, iterations=1):
        os.write(1, b"native chatter on stdout\\n"); print("compiling")
        return Space(samples=[80.0] * iterations)
    async def benchmark_predict(self, inputs=None, iterations=1, warmup=False):
        self.runs += 1
        time.sleep((4.0 + self.runs) / 1000)
        return Space(samples=[4.0 + self.runs] * iterations)
""",
    "models/ml_program/experimental/async_wrapper.py": """
class MLModelAsyncWrapper:
    @staticmethod
    def from_spec_or_path(spec_or_path, weights_dir, compute_units=None, function_name=None, device=None):
        assert weights_dir.endswith("/weights")
        return MLModelAsyncWrapper()
    async def predict(self, inputs, state=None):
        return {"sum": inputs["first"] + inputs["second"]}
""",
}


@pytest.fixture
def program(program: BundleProgram) -> BundleProgram:
    package = program.file.with_name("unet.mlpackage")
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}")
    (package / "Data" / "weight.bin").write_bytes(bytes(1000))
    np.array([0, 2, 4], np.float32).tofile(program.outputs[0].file)
    return replace(program, file=package, size_bytes=1002)


@pytest.fixture
def coremltools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, found before the installed package by processes started from here."""
    root = tmp_path / "stand-in"
    for name, text in STAND_IN.items():
        (root / "coremltools" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "coremltools" / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(root))
    return root


@pytest.mark.usefixtures("coremltools")
def test_a_package_is_timed_and_its_outputs_are_kept(program: BundleProgram, run_steps: RunSteps) -> None:
    runner = CoremlRunner(MAC)
    protocol = replace(SHORT, cold_loads=2)
    readings = runner.read(run_steps(runner, program, protocol), program, protocol)
    assert readings.loads == [{"total": 80.0}] * 3
    assert readings.warmup_ms == [5.0] and readings.samples_ms == [6.0, 7.0, 8.0]
    assert readings.starts_s[0] == 0 and readings.stop == "count"
    assert readings.memory == {"program_bytes": 1002} and readings.cpu_ms == []
    (output,) = readings.outputs
    assert (output.dtype, output.shape) == ("float32", (3,))
    assert np.fromfile(output.path, np.float32).tolist() == [0, 2, 4]
    assert "chooses threads and processors itself" in readings.notes[0]


@pytest.mark.usefixtures("coremltools")
def test_another_program_than_the_bundles_is_noticed(program: BundleProgram, run_steps: RunSteps) -> None:
    runner = CoremlRunner(MAC)
    runs = run_steps(runner, program, SHORT)
    with pytest.raises(RunnerError, match="loaded 1002 bytes, the bundle's program has 1001"):
        runner.read(runs, replace(program, size_bytes=1001), SHORT)


@pytest.mark.usefixtures("coremltools")
def test_a_failed_cold_load_is_the_error(program: BundleProgram, run_steps: RunSteps, coremltools: Path) -> None:
    broken = coremltools / "coremltools/models/ml_program/experimental/perf_utils.py"
    broken.write_text(broken.read_text().replace('os.write(1, b"', 'raise RuntimeError("no\\n ANE"); os.write(1, b"'))
    runner, protocol = CoremlRunner(MAC), replace(SHORT, cold_loads=1)
    with pytest.raises(RunnerError, match="host: the runner failed while load: no ANE"):
        runner.read(run_steps(runner, program, protocol), program, protocol)


class Benchmarker:
    """The interface of MLModelBenchmarker, with times that the test gives."""

    def __init__(self, *ms: float) -> None:
        self.ms, self.inputs = list(ms), []

    async def benchmark_load(self, iterations: int = 1) -> Any:
        return SimpleNamespace(samples=[100.0] * iterations)

    async def benchmark_predict(self, inputs: Any = None, iterations: int = 1, warmup: bool = False) -> Any:
        assert not warmup, "which would run twice and tell once"
        self.inputs.append(inputs)
        return SimpleNamespace(samples=[self.ms.pop(0)] * iterations)


def run_flow(benchmarker: Any, folder: Path, outputs: dict[str, Any], *options: str) -> None:
    (folder / "m.mlpackage").mkdir(exist_ok=True)
    every = ["--model", str(folder / "m.mlpackage"), "--threads", "2", "--output-dir", str(folder), "--output", "sum"]

    async def predict(inputs: dict[str, Any]) -> dict[str, Any]:
        return outputs

    asyncio.run(measure(benchmarker, lambda: predict, {"x": 1}, parse_arguments([*every, *options])))


def test_it_goes_on_until_the_median_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmarker = Benchmarker(50, *[10, 20, 30] * 2, *[20.0] * 200)
    options = ("--warmup", "1", "--iterations", "3", "--confidence", "0.01", "--max-iterations", "150")
    run_flow(benchmarker, tmp_path, {"sum": np.zeros(3, np.float32)}, *options)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    count = sum(event["event"] == "iteration" for event in events)
    assert events[-1]["stop"] == "confidence" and events[-1]["iterations"] == count
    assert 6 < count < 60
    assert benchmarker.inputs == [{"x": 1}] * (count + 1), "always the reference inputs, never coremltools' random ones"


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan")])
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, ms: float) -> None:
    with pytest.raises(Failure, match="instead of one time in milliseconds"):
        run_flow(Benchmarker(ms), tmp_path, {}, "--warmup", "0")


def test_a_missing_output_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no output 'sum'; it has: latents"):
        run_flow(Benchmarker(*[1.0] * 9), tmp_path, {"latents": 1}, "--warmup", "0", "--iterations", "1")


def test_the_stand_ins_have_the_interface_of_the_installed_package() -> None:
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.origin is None:
        pytest.skip("coremltools is not installed")
    folder = Path(spec.origin).parent / "models/ml_program/experimental"

    def parameters(file: str, owner: str, method: str) -> list[str]:
        tree = ast.parse((folder / file).read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner]
        (found,) = [
            node
            for node in classes[0].body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == method
        ]
        return [argument.arg for argument in found.args.args if argument.arg != "self"]

    assert parameters("perf_utils.py", "MLModelBenchmarker", "__init__") == ["model", "device"]
    assert parameters("perf_utils.py", "MLModelBenchmarker", "benchmark_load") == ["iterations"]
    assert parameters("perf_utils.py", "MLModelBenchmarker", "benchmark_predict") == ["inputs", "iterations", "warmup"]
    wrapper = parameters("async_wrapper.py", "MLModelAsyncWrapper", "from_spec_or_path")
    assert wrapper[:3] == ["spec_or_path", "weights_dir", "compute_units"] and wrapper[-1] == "device"
    assert parameters("async_wrapper.py", "MLModelAsyncWrapper", "predict") == ["inputs", "state"]
    assert parameters("remote_device.py", "Device", "get_connected_devices") == ["device_type"]
    assert "credentials" in parameters("remote_device.py", "Device", "prepare_for_model_debugging")


@pytest.mark.parametrize("system", ["linux", "android", "windows"])
def test_elsewhere_the_reason_is_given_in_one_line(system: str) -> None:
    with pytest.raises(RunnerError) as error:
        CoremlRunner(Platform(system, "x86_64"))
    assert "Apple systems only" in str(error.value) and system in str(error.value) and "\n" not in str(error.value)


def test_settings_that_core_ml_does_not_have_are_refused(program: BundleProgram) -> None:
    runner = CoremlRunner(MAC)
    with pytest.raises(RunnerError, match="cpu_mask cannot be kept to"):
        runner.steps(program, replace(SHORT, cpu_mask="f0"))
    with pytest.raises(RunnerError, match="weight_cache on cannot be kept to"):
        runner.steps(program, replace(SHORT, weight_cache="on"))
    with pytest.raises(RunnerError, match="memory_pass of protocol 'thorough'"):
        runner.steps(program, PROTOCOLS["thorough"])
    with pytest.raises(RunnerError, match="unknown compute units 'GPU'"):
        CoremlRunner(MAC, compute_units="GPU")


def test_an_iphone_needs_a_team_and_goes_into_the_command(
    program: BundleProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TEAM, raising=False)
    with pytest.raises(RunnerError, match=TEAM):
        CoremlRunner(IPHONE, udid="00008110-1")
    monkeypatch.setenv(TEAM, "AB12CD34EF")
    (step,) = CoremlRunner(IPHONE, udid="00008110-1").steps(program, SHORT)
    at = step.command.index("--device")
    assert step.command[at : at + 4] == ("--device", "00008110-1", "--team", "AB12CD34EF")


PHONES = [
    SimpleNamespace(udid="00008110-1", name="first", os_version="18.1", os_build_number="22B83"),
    SimpleNamespace(udid="00008120-2", name="second", os_version="17.5", os_build_number="21F90"),
]


def test_the_right_iphone_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreml_device, "connected", lambda: PHONES)
    assert IphoneDevice.from_argument("00008120-2").name == "iphone:00008120-2"
    assert IphoneDevice.from_argument("first").describe()["system"] == "iOS 18.1"
    assert [phone.udid for phone in IphoneDevice.find_all()] == ["00008110-1", "00008120-2"]
    with pytest.raises(RunnerError, match=r"not clear which iPhone is meant; connected: iphone:00008110-1 \(first\), "):
        IphoneDevice.from_argument("")
    with pytest.raises(RunnerError, match="no iPhone '00008999' is connected"):
        IphoneDevice.from_argument("00008999")
    monkeypatch.setattr(coreml_device, "connected", list)
    with pytest.raises(RunnerError, match="no iPhone is connected; connected: none"):
        IphoneDevice.from_argument("")
    state = IphoneDevice(PHONES[0]).state()
    assert state["battery_c"] is None and state["temperatures_c"] == {}


@pytest.mark.skipif(platform.system() == "Darwin", reason="a Mac can have iPhones")
def test_without_a_mac_there_is_no_iphone() -> None:
    with pytest.raises(RunnerError, match="measured from a Mac that it is connected to; this is "):
        IphoneDevice.from_argument("")
