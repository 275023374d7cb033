"""ONNX Runtime on a real graph: the installed package in a worker process, and the C++ runner on the same library."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runner.bundle.read import BundleProgram, BundleTensor
from device_runner.devices.job import Platform, RawRun
from device_runner.errors import RunnerError
from device_runner.measure.measure import measure
from device_runner.protocol.protocol import Protocol
from device_runner.runners.ort import (
    LIBRARY,
    PROGRAM,
    OnnxRuntimeRunner,
    compile_command,
    onnxruntime_device,
    onnxruntime_host,
)

SHORT = Protocol(warmup=2, iterations=4, threads=2)
RunSteps = Callable[..., Mapping[str, RawRun]]
INCLUDE = "MOBILEVD_TEST_ONNXRUNTIME_INCLUDE"
CACHE = Path.home() / ".cache" / "mobilevd-tests" / "onnxruntime-include"


@pytest.fixture
def program(tmp_path: Path) -> BundleProgram:
    """latents = relu(image) @ weight * scale, as float32."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    image, weight = (generator.standard_normal(shape, np.float32) for shape in ((4, 8), (8, 3)))
    scale = np.array([0.5, 2.0, -1.0], np.float32)
    nodes = [
        helper.make_node("Relu", ["image"], ["positive"]),
        helper.make_node("MatMul", ["positive", "weight"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["latents"]),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("image", [4, 8]), ("scale", [3]))]
    outputs = [helper.make_tensor_value_info("latents", TensorProto.FLOAT, [4, 3])]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    folder = tmp_path / "a bundle"
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "u.onnx")
    image.tofile(folder / "image.bin")
    scale.tofile(folder / "scale.bin")
    (np.maximum(image, 0) @ weight * scale).tofile(folder / "latents.bin")
    return BundleProgram(
        name="unet",
        file=folder / "u.onnx",
        size_bytes=(folder / "u.onnx").stat().st_size,
        method="forward",
        inputs=(
            BundleTensor("image", (4, 8), "float32", folder / "image.bin"),
            BundleTensor("scale", (3,), "float32", folder / "scale.bin"),
        ),
        outputs=(BundleTensor("latents", (4, 3), "float32", folder / "latents.bin", 100.0),),
    )


def headers() -> Path:
    """The folder of onnxruntime_c_api.h: named, the system's, or taken once from Debian's package."""
    for folder in (os.environ.get(INCLUDE, ""), "/usr/include/onnxruntime", str(CACHE)):
        if folder and (Path(folder) / "onnxruntime_c_api.h").is_file():
            return Path(folder)
    if shutil.which("mmdebstrap") is None:
        pytest.skip(f"no onnxruntime_c_api.h: set {INCLUDE}, or install libonnxruntime-dev or mmdebstrap")
    root = CACHE.with_name("onnxruntime-root")
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--variant=extract", "--include=libonnxruntime-dev", "trixie", str(root)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200)
    found = list(root.rglob("onnxruntime_c_api.h"))
    if not found:
        pytest.skip(f"no onnxruntime_c_api.h: {' '.join(command)} failed: {result.stderr.strip()[-200:]}")
    shutil.copytree(found[0].parent, CACHE, dirs_exist_ok=True)
    shutil.rmtree(root, ignore_errors=True)
    return CACHE


@pytest.fixture(scope="module")
def device_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user puts together for a device: here for this machine, with the installed package's library."""
    onnxruntime = pytest.importorskip("onnxruntime")
    compiler = shutil.which("g++") or pytest.skip("no g++ to compile the runner with")
    libraries = list(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("this package of onnxruntime carries no libonnxruntime.so")
    folder = tmp_path_factory.mktemp("ort runner")
    subprocess.run(compile_command([compiler, "-Wall", "-Wextra", "-Werror"], headers(), folder / PROGRAM), check=True)
    (folder / LIBRARY).symlink_to(libraries[0])
    return folder


@pytest.fixture(params=["python", "c++"])
def runner(request: pytest.FixtureRequest) -> OnnxRuntimeRunner:
    if request.param == "python":
        pytest.importorskip("onnxruntime")
        return onnxruntime_host()
    return onnxruntime_device(request.getfixturevalue("device_folder"), Platform("linux", "x86_64"))


def test_a_graph_is_run_and_timed_and_its_outputs_are_right(
    runner: OnnxRuntimeRunner, program: BundleProgram, run_steps: RunSteps
) -> None:
    runs = run_steps(runner, program, SHORT)
    readings = runner.read(runs, program, SHORT)
    assert len(readings.samples_ms) == 4 and len(readings.warmup_ms) == 2 and len(readings.loads) == 1
    assert all(ms > 0 for ms in readings.samples_ms) and readings.loads[0]["total"] > 0
    assert readings.starts_s[0] == 0 and readings.starts_s == sorted(readings.starts_s)
    assert readings.memory["peak_rss_bytes"] > 1 << 20 and readings.memory["involuntary_switches"] >= 0
    assert readings.affinity == f"{sum(1 << core for core in os.sched_getaffinity(0)):x}"
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    assert readings.first_start_uptime_s == pytest.approx(uptime_s, abs=60)
    (output,) = readings.outputs
    assert (output.dtype, output.shape) == ("float32", (4, 3))
    reference = np.fromfile(program.outputs[0].file, np.float32)
    np.testing.assert_allclose(np.fromfile(output.path, np.float32), reference, rtol=1e-5, atol=1e-6)


def write_manifest(program: BundleProgram) -> Path:
    """Make the program's folder a bundle, of its files as they are now."""

    def entry(tensor: BundleTensor, **more: float) -> dict[str, Any]:
        return {"name": tensor.name, "shape": tensor.shape, "dtype": tensor.dtype, "file": tensor.file.name, **more}

    folder = program.file.parent
    unet = {
        **{"file": "u.onnx", "method": "forward", "parity": {}, "delegation": {}},
        "inputs": [entry(tensor) for tensor in program.inputs],
        "outputs": [entry(tensor, min_psnr_db=100.0) for tensor in program.outputs],
    }
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    manifest = {
        **{
            "schema_version": 1,
            "name": "small",
            "target": "onnx",
            "precision": "fp32",
            "created": "2025-01-01T00:00:00Z",
        },
        **{"programs": {"unet": unet}, "model": {}, "tools": {}},
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in files.items()
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_bundle_is_measured_from_end_to_end(program: BundleProgram, runner: OnnxRuntimeRunner) -> None:
    measurement = measure(write_manifest(program), "host", SHORT, runner=runner)
    assert measurement.summary is not None and measurement.summary["n"] == 4
    assert measurement.outputs[0]["name"] == "latents" and measurement.runner["name"] == "onnxruntime"
    reference = program.outputs[0].file
    (np.fromfile(reference, np.float32) * np.float32(1.01)).tofile(reference)
    with pytest.raises(RunnerError, match="'latents' is not the bundle's reference: PSNR"):
        measure(write_manifest(program), "host", SHORT, runner=runner)


def test_cold_loads_memory_pass_and_stop_rule_are_kept(
    runner: OnnxRuntimeRunner, program: BundleProgram, run_steps: RunSteps
) -> None:
    protocol = Protocol(
        warmup=1,
        iterations=10,
        confidence=0.5,
        max_iterations=400,
        cold_loads=2,
        memory_pass=True,
        threads=1,
        load_mode="file",
        cpu_mask="1",
    )
    readings = runner.read(run_steps(runner, program, protocol), program, protocol)
    assert readings.stop in ("confidence", "max_iterations") and 10 <= len(readings.samples_ms) <= 400
    assert len(readings.loads) == 3


def test_what_is_wrong_is_said_in_one_line(
    runner: OnnxRuntimeRunner, program: BundleProgram, run_steps: RunSteps
) -> None:
    program.file.write_bytes(b"this is no graph")
    with pytest.raises(
        RunnerError, match=r"host: the runner failed while load: .*program\.onnx could not be loaded: \S"
    ):
        runner.read(run_steps(runner, program, SHORT), program, SHORT)


def test_there_is_no_weight_cache_to_switch_on(
    runner: OnnxRuntimeRunner, program: BundleProgram, run_steps: RunSteps
) -> None:
    protocol = replace(SHORT, weight_cache="on")
    with pytest.raises(RunnerError, match="failed while arguments: .* weight cache"):
        runner.read(run_steps(runner, program, protocol), program, protocol)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("short input", r"inputs: input 1, .*input_1\.bin, has 8 bytes; the graph takes|program takes"),
        ("one input less", "inputs: the graph takes 2 inputs, 1 were given"),
        ("method", "arguments: .* called '?forward'?, not 'encode'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    runner: OnnxRuntimeRunner, program: BundleProgram, run_steps: RunSteps, change: str, error: str
) -> None:
    if change == "short input":
        program.inputs[1].file.write_bytes(bytes(8))
    elif change == "one input less":
        program = replace(program, inputs=program.inputs[:1])
    else:
        program = replace(program, method="encode")
    with pytest.raises(RunnerError, match=error):
        runner.read(run_steps(runner, program, SHORT), program, SHORT)


def test_both_forms_give_the_same_values(program: BundleProgram, run_steps: RunSteps, device_folder: Path) -> None:
    values = []
    for runner in (onnxruntime_host(), onnxruntime_device(device_folder, Platform("linux", "x86_64"))):
        readings = runner.read(run_steps(runner, program, SHORT), program, SHORT)
        values.append(readings.outputs[0].path.read_bytes())
        shutil.rmtree(readings.outputs[0].path.parents[1])
    assert values[0] == values[1]


def test_a_library_that_is_not_onnx_runtime_is_named(
    program: BundleProgram, run_steps: RunSteps, device_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    shutil.copy(device_folder / PROGRAM, folder / PROGRAM)
    (folder / LIBRARY).write_bytes(b"not a library")
    runner = onnxruntime_device(folder, Platform("linux", "x86_64"))
    with pytest.raises(RunnerError, match="ONNX Runtime could not be opened: .*libonnxruntime.so"):
        runner.read(run_steps(runner, program, SHORT), program, SHORT)


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    phone = Platform("android", "arm64-v8a")
    with pytest.raises(
        RunnerError, match=r"has no ort_runner, for android on arm64-v8a; build it .*clang\+\+ -std=c\+\+17"
    ):
        onnxruntime_device(tmp_path, phone)
    (tmp_path / PROGRAM).touch()
    with pytest.raises(RunnerError, match=re.escape("has no libonnxruntime.so") + ".*jni/ABI"):
        onnxruntime_device(tmp_path, phone)


def test_there_is_no_etdump_of_a_graph(program: BundleProgram) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(RunnerError, match="makes no ETDump"):
        onnxruntime_host().profile_step(program, SHORT)
