"""A real measurement counts; one with any fault injected into it is refused with the reason."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runner.bundle.read import read_bundle
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, Platform, Progress, RawJob, Ready
from device_runner.devices.kinds import open_device
from device_runner.errors import RunnerError
from device_runner.measure.make_job import make_job
from device_runner.measure.measure import Measurement, measure, no_progress
from device_runner.protocol.protocol import PROTOCOLS, Protocol, named_protocol
from device_runner.runners.choose import choose_runner
from device_runner.runners.deployment import host_deployment
from device_runner.runners.mobilevd import MobilevdRunner

SHORT = Protocol(warmup=2, iterations=5, threads=1)


def ours(runner: Path) -> MobilevdRunner:
    return MobilevdRunner(host_deployment(runner))


def measure_here(bundle: Path, runner: Path, protocol: Protocol) -> Measurement:
    return measure(bundle, HostDevice(), protocol, runner=ours(runner))


def test_a_real_measurement(runner: Path, bundle: Path) -> None:
    result = measure_here(bundle, runner, SHORT)
    assert result.summary is not None
    assert len(result.samples_ms) == len(result.cpu_ms) == result.summary["n"] == 5
    assert len(result.warmup_ms) == 2
    assert result.summary["min"] <= result.median_ms <= result.summary["max"]
    assert result.median_ms == pytest.approx(np.median(result.samples_ms))
    assert result.outputs[0]["min_psnr_db"] == 100
    assert result.outputs[0]["psnr_db"] is None or result.outputs[0]["psnr_db"] >= 100
    assert result.outputs[0]["max_abs_error"] < 1e-5
    assert result.memory["peak_rss_bytes"] > 1e6
    assert result.memory["program_bytes"] == (bundle / "unet.pte").stat().st_size
    (load,) = result.loads_ms
    assert load["total"] == pytest.approx(load["program"] + load["method"]) and result.load_ms == load["total"]
    assert result.summary["first"] == result.warmup_ms[0]
    assert len(result.starts_s) == 5 and result.starts_s[0] == 0 and result.starts_s == sorted(result.starts_s)
    assert result.figure == {"name": "p50", "ms": result.median_ms} and not result.emulated and result.stop == "count"
    assert result.device["name"] == "host" and result.device["logical_cores"] >= 1 and result.device["cpu"]
    assert len(result.state_before["load_average"]) == 3 and "governors" in result.state_after
    assert {"executorch", "compiler", "python"} <= set(result.versions)
    assert result.bundle["sha256"] == read_bundle(bundle).sha256
    assert result.protocol["threads"] == 1
    assert (result.runner["name"], result.runner["form"]) == ("mobilevd", "host")
    if hasattr(os, "sched_getaffinity"):
        assert result.runner["affinity"] == f"{sum(1 << core for core in os.sched_getaffinity(0)):x}"
    assert not any("page cache" in note for note in result.notes)


def test_a_measurement_is_plain_json(runner: Path, bundle: Path) -> None:
    result = measure_here(bundle, runner, replace(SHORT, load_mode="file", weight_cache="on"))
    read_back = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert read_back["schema_version"] == 2
    assert read_back["samples_ms"] == result.samples_ms
    assert (read_back["protocol"]["load_mode"], read_back["protocol"]["weight_cache"]) == ("file", "on")
    assert "linear interpolation" in read_back["percentiles"]


def test_the_runner_uses_the_threads_it_is_told(runner: Path, bundle: Path, tmp_path: Path) -> None:
    loaded = read_bundle(bundle)
    for threads in (1, 2, 3):
        output_dir = tmp_path / str(threads)
        output_dir.mkdir()
        job = make_job(loaded, loaded.program("unet"), replace(SHORT, threads=threads), ours(runner))
        run = HostDevice().run(job, output_dir, lambda: None, no_progress).steps["timed"]
        assert json.loads(run.stdout.splitlines()[0])["threads"] == threads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process to cores")
def test_the_runner_stays_on_the_cores_of_the_mask(runner: Path, bundle: Path) -> None:
    core = min(os.sched_getaffinity(0))
    result = measure_here(bundle, runner, replace(SHORT, cpu_mask=f"{1 << core:x}"))
    assert result.protocol["cpu_mask"] == f"{1 << core:x}"
    assert result.runner["affinity"] == f"{1 << core:x}"
    with pytest.raises(RunnerError, match="cpu mask 4000000000000000 holds cores that are not usable here"):
        measure_here(bundle, runner, replace(SHORT, cpu_mask=f"{1 << 62:x}"))


def test_another_program_than_the_reference_is_refused(
    runner: Path, bundle: Path, edit_manifest: Callable[..., None], reference_output: np.ndarray
) -> None:
    reference_output[100] += 0.01
    reference_output.tofile(bundle / "reference" / "unet.latents.bin")
    edit_manifest(rehash=True)
    with pytest.raises(RunnerError, match="output 'latents' is not the bundle's reference: PSNR .* 100 dB"):
        measure_here(bundle, runner, SHORT)


def test_a_reference_that_is_not_finite_is_refused(
    runner: Path, bundle: Path, edit_manifest: Callable[..., None], reference_output: np.ndarray
) -> None:
    reference_output[3] = np.nan
    reference_output.tofile(bundle / "reference" / "unet.latents.bin")
    edit_manifest(rehash=True)
    with pytest.raises(RunnerError, match="the reference has 1 values that are not finite"):
        measure_here(bundle, runner, SHORT)


def test_an_input_of_another_size_is_refused_by_the_runner(
    runner: Path, bundle: Path, edit_manifest: Callable[..., None]
) -> None:
    np.zeros((1, 9, 1, 1), np.float32).tofile(bundle / "reference" / "unet.scale.bin")
    edit_manifest(lambda manifest: manifest["programs"]["unet"]["inputs"][1].update(shape=[1, 9, 1, 1]), rehash=True)
    with pytest.raises(RunnerError, match=r"failed while inputs: .*has 36 bytes.*float32 \[1,8,1,1\], 32 bytes"):
        measure_here(bundle, runner, SHORT)


def test_a_damaged_program_is_refused(runner: Path, bundle: Path, edit_manifest: Callable[..., None]) -> None:
    (bundle / "unet.pte").write_bytes(b"no program at all" * 100)
    edit_manifest(rehash=True)
    with pytest.raises(RunnerError, match="failed while load"):
        measure_here(bundle, runner, SHORT)


# What the real runner prints for SHORT, to be damaged below.
PROGRAM_BYTES = -1  # of the bundle's program; filled in by `lines`
LOAD = {"event": "load", "ns": 30, "program_ns": 10, "method_ns": 20, "threads": 1, "program_bytes": PROGRAM_BYTES}
EVENTS: list[dict[str, Any]] = [
    LOAD | {"method": "forward", "load_mode": "mmap", "affinity": ""},
    *({"event": "warmup", "index": index, "ns": 1000, "cpu_ns": 900} for index in range(2)),
    *({"event": "iteration", "index": i, "start_ns": 5000 * i, "ns": 1000, "cpu_ns": 900} for i in range(5)),
    {
        "event": "output",
        "index": 0,
        "file": "output_0.bin",
        "dtype": "float32",
        "shape": [1, 4, 16, 16],
        "bytes": 4096,
    },
    {
        "event": "done",
        "iterations": 5,
        "stop": "count",
        "peak_rss_kb": 1000,
        "pss_kb": -1,
        "minor_faults": 1,
        "major_faults": 0,
        "involuntary_switches": 7,
    },
]


def lines(events: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)


# Finds the value of --output-dir for a fake runner, and its way to the right output: copy the reference.
FIND_OUT = 'while [ "$1" != --output-dir ]; do shift; done; out=$2'
REFERENCE = '"$(dirname "$(readlink -f "$MODEL")")/reference/unet.latents.bin"'
COPY_REFERENCE = f'MODEL=$2; {FIND_OUT}; cp {REFERENCE} "$out/output_0.bin"'


def measure_fake(bundle: Path, runner: Path) -> None:
    measure_here(bundle, runner, SHORT)


def test_the_fake_runner_is_accepted_when_undamaged(bundle: Path, fake_runner: Callable[..., Path]) -> None:
    result = measure_here(bundle, fake_runner(lines(EVENTS), body=COPY_REFERENCE), SHORT)
    assert result.samples_ms == [0.001] * 5
    assert result.memory["involuntary_switches"] == 7 and result.runner["affinity"] is None
    assert result.outputs == [{"name": "latents", "psnr_db": None, "min_psnr_db": 100.0, "max_abs_error": 0.0}]


def test_output_cut_off_anywhere_is_refused(bundle: Path, fake_runner: Callable[..., Path]) -> None:
    """The link drops at any byte and the exit code is still 0: the case that adb really shows."""
    text = lines(EVENTS)
    for length in [0, *range(1, len(text), 41), len(text) - 2, len(text) - 1]:
        with pytest.raises(
            RunnerError, match="cut off|no done event" if length else "printed nothing; is it mobilevd's"
        ):
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
        (changed(0, program_bytes=3), "the runner loaded program_bytes 3, the bundle says"),
        (changed(9, involuntary_switches=-1), "involuntary_switches is -1"),
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
        (changed(8, shape=[1, 4, 16, 8]), "output 'latents' has shape [1, 4, 16, 8], the bundle says [1, 4, 16, 16]"),
        (changed(8, dtype="float16"), "output 'latents' has dtype float16, the bundle says float32"),
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
        ('head -c 4000 /dev/zero > "$out/output_0.bin"', "has 4000 bytes, 4096 bytes are expected"),
        ('head -c 4096 /dev/zero > "$out/output_0.bin"', "is not the bundle's reference"),
        ('head -c 4096 /dev/zero | tr "\\0" "\\377" > "$out/output_0.bin"', "1024 values that are not finite"),
    ],
)
def test_wrong_output_files_are_refused(bundle: Path, fake_runner: Callable[..., Path], body: str, text: str) -> None:
    with pytest.raises(RunnerError, match=text):
        measure_fake(bundle, fake_runner(lines(EVENTS), body=f"{FIND_OUT}; {body}"))


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
        measure_here(bundle, hanging, replace(SHORT, timeout_s=0.2))


def test_a_runner_that_is_not_there_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="nowhere cannot be started"):
        measure_fake(bundle, tmp_path / "nowhere")


def test_unknown_names_list_the_known_ones(bundle: Path) -> None:
    with pytest.raises(RunnerError, match="unknown device 'phone'; known: host, adb, iphone, all"):
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
    never = (math.inf, -math.inf, math.nan)
    durations = ("timeout_s", "gate_timeout_s", "sample_state_s", "max_seconds", "max_battery_c", "confidence")
    wrong: list[dict[str, Any]] = [
        *({name: value} for name in (*durations, "min_seconds") for value in never),
        {"warmup": -1},
        {"iterations": 0},
        {"threads": 0},
        {"iterations": 2.5},
        {"threads": True},
        {"load_mode": "ram"},
        {"weight_cache": "yes"},
        {"timeout_s": 0},
        {"gate_timeout_s": 0},
        {"cpu_mask": "0"},
        {"cpu_mask": "0xf0"},
        {"cpu_mask": "cores"},
    ]
    for fields in wrong:
        with pytest.raises(RunnerError, match=next(iter(fields))):
            Protocol(**fields)


def test_a_mask_of_cores_is_written_one_way() -> None:
    assert [Protocol(cpu_mask=mask).cpu_mask for mask in ("F0", "0f0", "f0", "00000000000000f0")] == ["f0"] * 4
    assert Protocol(cpu_mask="0F0") == Protocol(cpu_mask="f0")


def test_a_program_that_is_no_runner_is_named_so(bundle: Path) -> None:
    with pytest.raises(RunnerError, match="^host: the runner printed nothing; is it mobilevd's runner[?]$"):
        measure(bundle, "host", SHORT, runner="mobilevd:/bin/true")


@pytest.mark.parametrize("choice", ["host", "mobilevd:/bin/true"])
def test_a_runner_that_lies_here_is_for_this_machine(bundle: Path, choice: str) -> None:
    """Not even for another Linux of the same architecture: the file is not there."""

    class Elsewhere(HostDevice):
        name = "adb:R58M123"

        def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
            raise AssertionError("it was run")

    with pytest.raises(RunnerError) as caught:
        measure(bundle, Elsewhere(), SHORT, runner=choice)
    assert str(caught.value) == (
        f"the runner {choice} lies on this machine and cannot run on adb:R58M123; take ndk or glibc"
    )
    assert choose_runner(read_bundle(bundle), HostDevice(), "mobilevd:/bin/true").name == "mobilevd"


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
    with pytest.raises(RunnerError, match="a bundle for onnx cannot be run by mobilevd, which runs executorch-xnnpack"):
        measure(bundle, runner="mobilevd")
    edit_manifest(lambda manifest: manifest.update(target="executorch-coreml"))
    with pytest.raises(RunnerError, match="no runner measures bundles for executorch-coreml; there are runners for"):
        measure(bundle)
    with pytest.raises(RunnerError, match="unknown runner 'abacus'; known: mobilevd"):
        measure(bundle, runner="abacus")


def test_a_device_that_is_gone_after_the_run_costs_no_result(runner: Path, bundle: Path) -> None:
    """All that is asked of it besides was asked before."""

    class Leaving(HostDevice):
        gone = False

        def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
            raw = super().run(job, output_dir, ready, progress)
            self.gone = True
            return raw

        def state(self) -> dict[str, Any]:
            assert not self.gone
            return super().state()

        def describe(self) -> dict[str, Any]:
            assert not self.gone
            return super().describe()

    assert len(measure(bundle, Leaving(), SHORT, runner=ours(runner)).samples_ms) == 5


def test_an_emulated_processor_has_no_latency(runner: Path, bundle: Path) -> None:
    """Its outputs are checked as those of any other, and its times are thrown away."""

    class Emulated(HostDevice):
        def platform(self) -> Platform:
            return replace(super().platform(), emulated="a test says so")

    result = measure(bundle, Emulated(), SHORT, runner=ours(runner))
    assert result.emulated and result.outputs[0]["min_psnr_db"] == 100
    assert not (result.samples_ms or result.warmup_ms or result.cpu_ms or result.starts_s or result.loads_ms)
    assert result.summary is None and result.figure is None and result.load_ms is None
    with pytest.raises(RunnerError, match=r"emulated \(a test says so\): no latency"):
        _ = result.median_ms


def test_a_protocol_of_every_kind_runs_here(runner: Path, bundle: Path) -> None:
    """Cold loads, a memory pass, a search for the median, and states noted on the way; with limits short enough."""
    protocol = Protocol(
        warmup=1,
        iterations=20,
        min_seconds=0.3,
        confidence=0.5,
        max_iterations=5_000,
        max_seconds=5,
        cold_loads=2,
        memory_pass=True,
        sample_state_s=0.05,
        max_battery_c=37,
        figure="p90",
        threads=1,
    )
    result = measure_here(bundle, runner, protocol)
    assert len(result.loads_ms) == 3 and result.load_ms == sorted(each["total"] for each in result.loads_ms)[1]
    assert result.stop == "confidence" and len(result.samples_ms) >= 20
    assert result.starts_s[-1] + result.samples_ms[-1] / 1e3 >= 0.3
    assert result.figure is not None and result.summary is not None
    assert result.figure == {"name": "p90", "ms": result.summary["p90"]}
    assert any("still in the system's page cache" in note for note in result.notes)
    assert len(result.series) >= 2 and result.first_start_uptime_s is not None
    assert abs(result.series[0]["uptime_s"] - result.first_start_uptime_s) < 60
    if result.state_before["battery_c"] is None:
        assert any("temperature" in note for note in result.notes)
