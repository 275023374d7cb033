"""A real measurement counts; one with any fault injected into it is refused with the reason."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runner.bundle import read_bundle
from device_runner.devices import open_device
from device_runner.errors import RunnerError
from device_runner.host import HostDevice
from device_runner.measure import measure
from device_runner.protocol import PROTOCOLS, Protocol, named_protocol

SHORT = Protocol(warmup=2, iterations=5, threads=1)


def test_a_real_measurement(runner: Path, bundle: Path) -> None:
    result = measure(bundle, HostDevice(runner=runner), SHORT)
    assert len(result.samples_ms) == len(result.cpu_ms) == result.summary["n"] == 5
    assert len(result.warmup_ms) == 2
    assert result.summary["min"] <= result.median_ms <= result.summary["max"]
    assert result.median_ms == pytest.approx(np.median(result.samples_ms))
    assert result.outputs[0]["min_psnr_db"] == 100
    assert result.outputs[0]["psnr_db"] is None or result.outputs[0]["psnr_db"] >= 100
    assert result.outputs[0]["max_abs_error"] < 1e-5
    assert result.memory["peak_rss_bytes"] > 1e6
    assert result.memory["program_bytes"] == (bundle / "unet.pte").stat().st_size
    assert result.load_ms["total"] == pytest.approx(result.load_ms["program"] + result.load_ms["method"])
    assert result.device["name"] == "host" and result.device["logical_cores"] >= 1 and result.device["cpu"]
    assert len(result.state_before["load_average"]) == 3 and "governors" in result.state_after
    assert {"executorch", "compiler", "python"} <= set(result.versions)
    assert result.bundle["sha256"] == read_bundle(bundle).sha256
    assert result.protocol["threads"] == 1


def test_a_measurement_is_plain_json(runner: Path, bundle: Path) -> None:
    result = measure(bundle, HostDevice(runner=runner), replace(SHORT, load_mode="file"))
    read_back = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert read_back["schema_version"] == 1
    assert read_back["samples_ms"] == result.samples_ms
    assert read_back["protocol"]["load_mode"] == "file"
    assert "linear interpolation" in read_back["percentiles"]


def test_the_runner_uses_the_threads_it_is_told(runner: Path, bundle: Path, tmp_path: Path) -> None:
    loaded = read_bundle(bundle)
    for threads in (1, 2, 3):
        output_dir = tmp_path / str(threads)
        output_dir.mkdir()
        protocol = replace(SHORT, threads=threads)
        run = HostDevice(runner=runner).run(loaded, loaded.program("unet"), protocol, output_dir)
        assert json.loads(run.stdout.splitlines()[0])["threads"] == threads


def test_another_program_than_the_reference_is_refused(
    runner: Path, bundle: Path, edit_manifest: Callable[..., None], reference_output: np.ndarray
) -> None:
    reference_output[100] += 0.01
    reference_output.tofile(bundle / "reference" / "unet.latents.bin")
    edit_manifest(rehash=True)
    with pytest.raises(RunnerError, match="output 'latents' is not the bundle's reference: PSNR .* 100 dB"):
        measure(bundle, HostDevice(runner=runner), SHORT)


def test_a_reference_that_is_not_finite_is_refused(
    runner: Path, bundle: Path, edit_manifest: Callable[..., None], reference_output: np.ndarray
) -> None:
    reference_output[3] = np.nan
    reference_output.tofile(bundle / "reference" / "unet.latents.bin")
    edit_manifest(rehash=True)
    with pytest.raises(RunnerError, match="the reference has 1 values that are not finite"):
        measure(bundle, HostDevice(runner=runner), SHORT)


def test_an_input_of_another_size_is_refused_by_the_runner(
    runner: Path, bundle: Path, edit_manifest: Callable[..., None]
) -> None:
    np.zeros((1, 9, 1, 1), np.float32).tofile(bundle / "reference" / "unet.scale.bin")
    edit_manifest(lambda manifest: manifest["programs"]["unet"]["inputs"][1].update(shape=[1, 9, 1, 1]), rehash=True)
    with pytest.raises(RunnerError, match=r"failed while inputs: .*has 36 bytes.*float32 \[1,8,1,1\], 32 bytes"):
        measure(bundle, HostDevice(runner=runner), SHORT)


def test_a_damaged_program_is_refused(runner: Path, bundle: Path, edit_manifest: Callable[..., None]) -> None:
    (bundle / "unet.pte").write_bytes(b"no program at all" * 100)
    edit_manifest(rehash=True)
    with pytest.raises(RunnerError, match="failed while load"):
        measure(bundle, HostDevice(runner=runner), SHORT)


# What the real runner prints for SHORT, to be damaged below.
LOAD = {"event": "load", "ns": 30, "program_ns": 10, "method_ns": 20, "threads": 1, "program_bytes": 100}
EVENTS: list[dict[str, Any]] = [
    LOAD | {"method": "forward", "load_mode": "mmap"},
    *({"event": "warmup", "index": index, "ns": 1000, "cpu_ns": 900} for index in range(2)),
    *({"event": "iteration", "index": index, "ns": 1000, "cpu_ns": 900} for index in range(5)),
    {
        "event": "output",
        "index": 0,
        "file": "output_0.bin",
        "dtype": "float32",
        "shape": [1, 4, 16, 16],
        "bytes": 4096,
    },
    {"event": "done", "iterations": 5, "peak_rss_kb": 1000, "minor_faults": 1, "major_faults": 0},
]


def lines(events: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)


# The fake runner's way to produce the right output: copy the reference. $6 is the value of --output-dir.
COPY_REFERENCE = 'cp "$(dirname "$2")/reference/unet.latents.bin" "$6/output_0.bin"'


def measure_fake(bundle: Path, runner: Path) -> None:
    measure(bundle, HostDevice(runner=runner), SHORT)


def test_the_fake_runner_is_accepted_when_undamaged(bundle: Path, fake_runner: Callable[..., Path]) -> None:
    result = measure(bundle, HostDevice(runner=fake_runner(lines(EVENTS), body=COPY_REFERENCE)), SHORT)
    assert result.samples_ms == [0.001] * 5
    assert result.outputs == [{"name": "latents", "psnr_db": None, "min_psnr_db": 100.0, "max_abs_error": 0.0}]


def test_output_cut_off_anywhere_is_refused(bundle: Path, fake_runner: Callable[..., Path]) -> None:
    """The link drops at any byte and the exit code is still 0: the case that adb really shows."""
    text = lines(EVENTS)
    for length in [0, *range(1, len(text), 41), len(text) - 2, len(text) - 1]:
        with pytest.raises(RunnerError, match="cut off|no done event"):
            measure_fake(bundle, fake_runner(text[:length], body=COPY_REFERENCE))


def changed(position: int, **fields: Any) -> list[dict[str, Any]]:
    return [event | fields if at == position else event for at, event in enumerate(EVENTS)]


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (EVENTS[:-1], "no done event at the end"),
        (EVENTS[:3] + EVENTS[4:], "4 iteration instead of 5"),
        (EVENTS[:1] + EVENTS[2:], "1 warmup instead of 2"),
        (EVENTS[:4] + EVENTS[3:], "6 iteration instead of 5"),
        (EVENTS[:-2] + EVENTS[-1:], "0 output instead of 1"),
        (EVENTS + EVENTS[-1:], "2 done instead of 1"),
        ([EVENTS[1], EVENTS[0], *EVENTS[2:]], "out of order"),
        (changed(4, index=0), "not numbered"),
        (changed(0, threads=2), "asked for threads 1, the runner reports 2"),
        (changed(0, load_mode="file"), "asked for load_mode mmap"),
        (changed(9, iterations=4), "asked for iterations 5, the runner reports 4"),
        (changed(4, ns=0), "took no time"),
        (changed(4, ns=-5), "line 5 of the runner's output: ns is -5"),
        (changed(4, ns="1000"), "line 5 of the runner's output: ns is '1000'"),
        (changed(4, extra=1), "line 5 of the runner's output is not one of its events"),
        ([*EVENTS[:4], {"event": "hello"}, *EVENTS[4:]], "not one of its events"),
        (
            [*EVENTS, {"event": "error", "stage": "output", "message": "disk full"}],
            "failed while output: disk full",
        ),
        (changed(8, shape=[1, 4, 16, 8]), "output 'latents' is float32 [1, 4, 16, 8]"),
        (changed(8, dtype="float16"), "the bundle says float32"),
        (changed(8, file="../reference/unet.latents.bin"), "outside its output folder"),
        (changed(8, file="output_1.bin"), "output_1.bin is missing"),
    ],
)
def test_events_that_do_not_add_up_are_refused(
    bundle: Path, fake_runner: Callable[..., Path], events: list[dict[str, Any]], text: str
) -> None:
    with pytest.raises(RunnerError) as caught:
        measure_fake(bundle, fake_runner(lines(events), body=COPY_REFERENCE))
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_line_that_is_not_json_is_refused(bundle: Path, fake_runner: Callable[..., Path]) -> None:
    with pytest.raises(RunnerError, match="line 1 of the runner's output is not one of its events: 'WARNING"):
        measure_fake(bundle, fake_runner("WARNING: linker\n" + lines(EVENTS), body=COPY_REFERENCE))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("true", "output_0.bin is missing"),
        ('head -c 4000 /dev/zero > "$6/output_0.bin"', "has 4000 bytes, 4096 bytes are expected"),
        ('head -c 4096 /dev/zero > "$6/output_0.bin"', "is not the bundle's reference"),
        ('head -c 4096 /dev/zero | tr "\\0" "\\377" > "$6/output_0.bin"', "1024 values that are not finite"),
    ],
)
def test_wrong_output_files_are_refused(bundle: Path, fake_runner: Callable[..., Path], body: str, text: str) -> None:
    with pytest.raises(RunnerError, match=text):
        measure_fake(bundle, fake_runner(lines(EVENTS), body=body))


@pytest.mark.parametrize(
    ("body", "exit_code", "text"),
    [
        ("", 3, "exit code 3: last words"),
        ("", 139, "killed by SIGSEGV"),
        ('cat "${0%fake-runner}stderr.txt" >&2; kill -ABRT $$', 0, "killed by SIGABRT: last words"),
    ],
)
def test_a_failed_run_is_refused_even_with_complete_output(
    bundle: Path, fake_runner: Callable[..., Path], body: str, exit_code: int, text: str
) -> None:
    body = f"{COPY_REFERENCE}\n{body}"
    with pytest.raises(RunnerError, match=text):
        measure_fake(bundle, fake_runner(lines(EVENTS), exit_code, stderr="first\nlast words\n", body=body))


def test_a_run_that_hangs_is_stopped(bundle: Path, fake_runner: Callable[..., Path]) -> None:
    hanging = fake_runner(lines(EVENTS), body="exec sleep 60")
    with pytest.raises(RunnerError, match=r"stopped after 0\.2 s"):
        measure(bundle, HostDevice(runner=hanging), replace(SHORT, timeout_s=0.2))


def test_a_runner_that_is_not_there_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="nowhere cannot be started"):
        measure_fake(bundle, tmp_path / "nowhere")


def test_unknown_names_list_the_known_ones(bundle: Path) -> None:
    with pytest.raises(RunnerError, match="unknown device 'phone'; known: host"):
        measure(bundle, "phone")
    with pytest.raises(RunnerError, match="there is one host"):
        open_device("host:1")
    with pytest.raises(RunnerError, match="unknown protocol 'fast'; known: default, quick"):
        measure(bundle, "host", "fast")
    with pytest.raises(RunnerError, match="no program 'decoder'"):
        measure(bundle, "host", "quick", program="decoder")


def test_protocols_check_their_values() -> None:
    assert named_protocol("quick") is PROTOCOLS["quick"]
    assert (named_protocol("quick").warmup, named_protocol("quick").iterations) == (3, 20)
    wrong: list[dict[str, Any]] = [
        {"warmup": -1},
        {"iterations": 0},
        {"threads": 0},
        {"iterations": 2.5},
        {"threads": True},
        {"load_mode": "ram"},
        {"timeout_s": 0},
    ]
    for fields in wrong:
        with pytest.raises(RunnerError, match=next(iter(fields))):
            Protocol(**fields)


def test_the_package_imports_without_torch_or_the_other_packages() -> None:
    script = """
import pkgutil, sys
import device_runner
for module in pkgutil.walk_packages(device_runner.__path__, "device_runner."):
    __import__(module.name)
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"torch", "numpy", "executorch", "mobilevd", "training", "export", "eval"}))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_bundle_for_another_runtime_is_refused(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    edit_manifest(lambda manifest: manifest.update(target="onnx"))
    with pytest.raises(RunnerError, match="a bundle for onnx cannot be measured on host: the runner runs programs for"):
        measure(bundle)
