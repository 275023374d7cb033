"""The runner as a program: what it refuses, when it stops, and that its trace is of the timed runs alone."""

import itertools
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runner.building.toolchain import SOURCE_FOLDER, find_compiler
from device_runner.bundle.read import BundleProgram, read_bundle
from device_runner.devices.job import FILES, OUT, RawRun, Step
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.protocol.statistics import median_half_width
from device_runner.protocol.stop_rule import stop_reason, wrong_stop
from device_runner.runners.base import Readings
from device_runner.runners.deployment import host_deployment
from device_runner.runners.mobilevd import MobilevdRunner

SHORT = Protocol(warmup=2, iterations=5, threads=1)


def run(runner: Path, *arguments: str) -> tuple[int, dict[str, str]]:
    result = subprocess.run([str(runner), *arguments], capture_output=True, text=True)
    return result.returncode, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--model FILE is missing"),
        (["--model"], "--model needs a value"),
        (["--colour", "red"], "unknown argument '--colour'"),
        (["--iterations", "-1"], "--iterations takes a whole number from 0, not '-1'"),
        (["--warmup", "3x"], "--warmup takes a whole number from 0, not '3x'"),
        (["--model", "a", "--output-dir", "b"], "--threads N is missing"),
        (["--model", "a", "--output-dir", "b", "--threads", "1", "--load-mode", "x"], "mmap or file"),
        (["--model", "a", "--output-dir", "b", "--threads", "1", "--weight-cache", "x"], "on or off, not 'x'"),
        (["--min-seconds", "-1"], "--min-seconds takes a positive number or 0, not '-1'"),
        (["--min-seconds", "nan"], "--min-seconds takes a positive number or 0, not 'nan'"),
        (["--confidence", "0"], "--confidence takes a positive number, not '0'"),
        (["--max-seconds", "1s"], "--max-seconds takes a positive number, not '1s'"),
        (["--max-iterations", "0"], "--max-iterations takes a whole number from 1"),
        (["--model", "a", "--threads", "1"], "--output-dir FOLDER is missing"),
        (["--model", "a", "--output-dir", "b", "--threads", "1", "--confidence", "0.1"], "needs --max-iterations or"),
        (["--model", "a", "--threads", "1", "--iterations", "0", "--etdump", "c"], "--iterations 0 asks for none"),
    ],
)
def test_the_runner_refuses_wrong_arguments(runner: Path, arguments: list[str], text: str) -> None:
    exit_code, event = run(runner, *arguments)
    assert (exit_code, event["event"], event["stage"]) == (1, "error", "arguments")
    assert text in event["message"]


def common(bundle: Path) -> list[str]:
    return ["--output-dir", str(bundle), "--threads", "1", "--warmup", "0", "--iterations", "1"]


def inputs(bundle: Path, *names: str) -> list[str]:
    return [part for name in names for part in ("--input", str(bundle / "reference" / f"unet.{name}.bin"))]


def test_the_runner_names_what_is_wrong_with_the_inputs(runner: Path, bundle: Path) -> None:
    model = ["--model", str(bundle / "unet.pte")]
    exit_code, event = run(runner, *model, *common(bundle), *inputs(bundle, "image"))
    assert (exit_code, event["stage"]) == (1, "inputs")
    assert "takes 2 inputs, 1 were given" in event["message"]
    exit_code, event = run(runner, *model, *common(bundle), *inputs(bundle, "scale", "image"))
    assert (exit_code, event["stage"]) == (1, "inputs")
    assert "32 bytes" in event["message"] and "float32 [1,3,16,16], 3072 bytes" in event["message"]
    exit_code, event = run(runner, *model, *common(bundle), *inputs(bundle, "image", "nothing"))
    assert exit_code == 1 and "No such file" in event["message"]


def test_the_runner_names_what_is_wrong_with_the_program(runner: Path, bundle: Path) -> None:
    exit_code, event = run(runner, "--model", "/nowhere.pte", *common(bundle))
    assert (exit_code, event["stage"]) == (1, "load")
    assert "/nowhere.pte: No such file" in event["message"]
    exit_code, event = run(runner, "--model", str(bundle / "manifest.json"), *common(bundle))
    assert (exit_code, event["stage"]) == (1, "load")
    assert "could not be loaded" in event["message"]
    exit_code, event = run(runner, "--model", str(bundle / "unet.pte"), "--method", "decode", *common(bundle))
    assert (exit_code, event["stage"]) == (1, "load")
    assert "no method 'decode'; it has: forward" in event["message"]


def test_the_runner_says_when_it_cannot_write(runner: Path, bundle: Path) -> None:
    arguments = [*common(bundle), *inputs(bundle, "image", "scale")]
    arguments[1] = str(bundle / "missing")
    exit_code, event = run(runner, "--model", str(bundle / "unet.pte"), *arguments)
    assert (exit_code, event["stage"]) == (1, "output")
    assert "could not be written" in event["message"]


def test_strange_names_survive_as_json(runner: Path, bundle: Path) -> None:
    exit_code, event = run(runner, "--model", 'a"b\\c\nd', *common(bundle))
    assert exit_code == 1 and event["message"].startswith('a"b\\c\nd: ')


@pytest.fixture
def unet(bundle: Path) -> BundleProgram:
    return read_bundle(bundle).program("unet")


@pytest.fixture
def ours(runner: Path) -> MobilevdRunner:
    return MobilevdRunner(host_deployment(runner))


def run_steps(steps: list[Step], program: BundleProgram, folder: Path) -> dict[str, RawRun]:
    """Run steps where a device would: files and output folders under `folder`."""
    files = folder / "files"
    files.mkdir(parents=True)
    (files / "program.pte").symlink_to(program.file)
    for index, tensor in enumerate(program.inputs):
        (files / f"input_{index}.bin").symlink_to(tensor.file)
    runs = {}
    for step in steps:
        out = folder / step.name
        out.mkdir()
        command = [part.replace(FILES, str(files)).replace(OUT, str(out)) for part in step.command]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        runs[step.name] = RawRun("host", result.returncode, result.stdout, result.stderr, out)
        assert {path.name for path in out.iterdir()} >= set(step.outputs) or result.returncode != 0
    return runs


@pytest.fixture
def measured(ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path):
    """Readings of the real runner under a protocol."""

    def measure(protocol: Protocol) -> Readings:
        return ours.read(run_steps(ours.steps(unet, protocol), unet, tmp_path / "device"), unet, protocol)

    return measure


def test_cold_loads_and_memory_are_processes_of_their_own(ours: MobilevdRunner, unet: BundleProgram, measured) -> None:
    protocol = replace(SHORT, cold_loads=2, memory_pass=True)
    steps = {step.name: step for step in ours.steps(unet, protocol)}
    assert list(steps) == ["load-1", "load-2", "memory", "timed"]
    assert [step.outputs for step in steps.values()] == [(), (), (), ("output_0.bin",)]
    readings = measured(protocol)
    assert len(readings.loads) == 3 and all(load["total"] > 0 for load in readings.loads)
    assert len(readings.warmup_ms) == 2 and len(readings.samples_ms) == len(readings.cpu_ms) == 5
    assert readings.stop == "count" and readings.starts_s[0] == 0


def test_peak_memory_is_the_runners_own(measured) -> None:
    """Not that of the process which started it: Linux carries `ru_maxrss` over, and this one is far larger."""
    ballast = np.ones(300 << 20, np.uint8)
    memory = measured(SHORT).memory
    assert ballast.nbytes > 2 * memory["peak_rss_bytes"] > 2e6
    if Path("/proc/self/smaps_rollup").exists():
        assert 1e6 < memory["pss_bytes"] <= memory["peak_rss_bytes"]


def test_runs_go_on_for_the_least_time(measured) -> None:
    readings = measured(replace(SHORT, min_seconds=0.2))
    assert readings.stop == "count" and len(readings.samples_ms) > 5
    before_last = readings.starts_s[-2] + readings.samples_ms[-2] / 1e3
    assert before_last < 0.2 <= readings.starts_s[-1] + readings.samples_ms[-1] / 1e3


def test_runs_go_on_until_the_median_is_known(measured) -> None:
    readings = measured(replace(SHORT, confidence=0.2, max_iterations=20000))
    assert readings.stop == "confidence" and len(readings.samples_ms) >= 6
    assert median_half_width(readings.samples_ms) <= 0.2


def test_a_limit_ends_the_search_for_the_median(measured) -> None:
    readings = measured(replace(SHORT, confidence=1e-12, max_iterations=40))
    assert (readings.stop, len(readings.samples_ms)) in {
        ("max_iterations", 40),
        ("confidence", len(readings.samples_ms)),
    }


def test_a_time_limit_ends_the_search_for_the_median(ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path) -> None:
    protocol = replace(SHORT, iterations=3, confidence=1e-12, max_seconds=0.001)
    readings = ours.read(run_steps(ours.steps(unet, protocol), unet, tmp_path / "device"), unet, protocol)
    assert readings.stop in ("max_seconds", "confidence")
    if readings.stop == "max_seconds":
        assert readings.starts_s[-1] + readings.samples_ms[-1] / 1e3 >= 0.001


# Reads lines "iterations min_seconds confidence max_iterations max_seconds samples..." and says where the rule stops.
RULE = """
#include <iostream>
#include <sstream>
#include "stop_rule.h"
int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    Arguments arguments;
    fields >> arguments.iterations >> arguments.min_seconds >> arguments.confidence >> arguments.max_iterations >>
        arguments.max_seconds;
    StopRule rule(arguments);
    std::vector<int64_t> samples;
    int64_t elapsed = 0;
    std::string reason;
    for (int64_t sample; reason.empty() && fields >> sample;) {
      samples.push_back(sample);
      elapsed += sample;
      reason = rule.reason(samples, elapsed);
    }
    std::cout << samples.size() << " " << (reason.empty() ? "none" : reason) << std::endl;
  }
}
"""


def test_the_rule_in_the_runner_is_the_rule_that_checks_it(tmp_path: Path) -> None:
    (tmp_path / "rule.cpp").write_text(RULE)
    compile_rule = [*find_compiler(), "-std=c++17", "-O2", f"-I{SOURCE_FOLDER}", "rule.cpp", "-o", "rule"]
    subprocess.run(compile_rule, cwd=tmp_path, check=True)
    draw = random.Random(0)
    protocols, drawn = [], []
    for _ in range(300):
        limit = draw.choice([{"max_iterations": 700}, {"max_seconds": 0.1}, {"max_iterations": 90, "max_seconds": 0.2}])
        search: dict[str, Any] = {"confidence": draw.choice([0.005, 0.02, 0.1]), **limit} if draw.random() < 0.8 else {}
        first = draw.choice([1, 8, 30])
        protocols.append(Protocol(iterations=first, min_seconds=draw.choice([0.0, 0.05]), **search))
        spread = draw.choice([0.0, 0.05, 0.5])
        drawn.append([int(1e6 * draw.lognormvariate(0, spread)) for _ in range(800)])
    lines = [
        f"{p.iterations} {p.min_seconds} {p.confidence or 0} {p.max_iterations or 0} {p.max_seconds or 0} "
        + " ".join(map(str, samples))
        for p, samples in zip(protocols, drawn, strict=True)
    ]
    result = subprocess.run(
        [tmp_path / "rule"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    reasons = set()
    for protocol, samples, answer in zip(protocols, drawn, result.stdout.splitlines(), strict=True):
        count, reason = int(answer.split()[0]), answer.split()[1]
        starts = [0, *itertools.accumulate(samples[: count - 1])]
        assert wrong_stop(starts, samples[:count], reason, protocol) is None
        reasons.add(reason)
        if count <= 50 and protocol.iterations > 1:  # until then it looks at the samples after every run
            ends = list(itertools.accumulate(samples))
            expected = next(n for n in range(1, 51) if stop_reason(samples[:n], ends[n - 1], protocol))
            assert count == expected
    assert reasons == {"count", "confidence", "max_iterations", "max_seconds"}


def test_starts_are_on_the_clock_of_the_machine(measured) -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        pytest.skip("this system has no clock that counts from its start")
    before = time.clock_gettime(clock)
    readings = measured(SHORT)
    assert before < readings.first_start_uptime_s < time.clock_gettime(clock)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process to cores")
def test_the_cores_that_it_may_use_are_told(ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    pinned = replace(SHORT, cpu_mask=f"{sum(1 << core for core in cores):X}")
    runs = run_steps(ours.steps(unet, pinned), unet, tmp_path / "device")
    assert len(ours.read(runs, unet, pinned).samples_ms) == 5
    missed = replace(SHORT, cpu_mask=f"{1 << (max(cores) + 1):x}")
    with pytest.raises(RunnerError, match=f"asked for the cores of the mask {missed.cpu_mask}, the runner ran on"):
        ours.read(runs, unet, missed)


def test_the_trace_is_of_the_timed_runs_alone(ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path) -> None:
    protocol = replace(SHORT, warmup=4)
    step = ours.profile_step(unet, protocol, runs=3)
    run = run_steps([step], unet, tmp_path / "device")["profile"]
    readings, trace = ours.read_profile(run, unet, protocol, runs=3)
    assert len(readings.samples_ms) == 3 and len(readings.warmup_ms) == 4 and len(readings.outputs) == 1
    from executorch.devtools import Inspector

    blocks = {block.name: block for block in Inspector(etdump_path=str(trace)).event_blocks}
    assert list(blocks) == ["Execute"], "loading is not in the trace"
    (whole,) = [event for event in blocks["Execute"].events if event.name == "Method::execute"]
    assert whole.perf_data is not None and len(whole.perf_data.raw) == 3
    assert all(0 < traced <= sample for traced, sample in zip(whole.perf_data.raw, readings.samples_ms, strict=True))

    trace.write_bytes(trace.read_bytes()[:-1])
    with pytest.raises(RunnerError, match="the trace trace.etdump has [0-9]+ bytes, the runner reports"):
        ours.read_profile(run, unet, protocol, runs=3)
    trace.unlink()
    with pytest.raises(RunnerError, match="the trace trace.etdump is missing"):
        ours.read_profile(run, unet, protocol, runs=3)


def test_a_trace_that_cannot_be_written_is_an_error(runner: Path, bundle: Path) -> None:
    trace = ["--etdump", str(bundle / "missing" / "trace.etdump")]
    arguments = ["--model", str(bundle / "unet.pte"), *common(bundle), *inputs(bundle, "image", "scale"), *trace]
    exit_code, event = run(runner, *arguments)
    assert (exit_code, event["stage"]) == (1, "etdump") and "could not be written" in event["message"]


@pytest.mark.parametrize(
    ("step", "old", "new", "text"),
    [
        ("timed", '"program_bytes":', '"program_bytes":1', "the runner loaded program_bytes 1[0-9]+, the bundle says"),
        ("timed", '"method":"forward"', '"method":"other"', "the runner loaded method other, the bundle says forward"),
        ("load-1", '"iterations":0', '"iterations":1', "asked to load only, the runner reports 1 runs"),
        ("load-1", '"threads":1', '"threads":2', "asked for threads 1, the runner reports 2"),
        ("memory", '"event":"done"', '"event":"gone"', "is not one of its events"),
    ],
)
def test_each_step_must_be_right(
    ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path, step: str, old: str, new: str, text: str
) -> None:
    protocol = replace(SHORT, cold_loads=1, memory_pass=True)
    runs = run_steps(ours.steps(unet, protocol), unet, tmp_path / "device")
    damaged = {**runs, step: replace(runs[step], stdout=runs[step].stdout.replace(old, new))}
    assert damaged[step].stdout != runs[step].stdout
    with pytest.raises(RunnerError, match=text):
        ours.read(damaged, unet, protocol)


def test_switches_are_those_of_the_timed_runs(ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path) -> None:
    """The peak memory is the memory pass's; what disturbed that says nothing of the times."""
    protocol = replace(SHORT, memory_pass=True)
    runs = run_steps(ours.steps(unet, protocol), unet, tmp_path / "device")
    for name, switches in (("memory", 77), ("timed", 4711)):
        done = json.loads(runs[name].stdout.splitlines()[-1])
        assert 0 <= done["involuntary_switches"] < 10_000
        told = f'"involuntary_switches":{done["involuntary_switches"]}'
        stdout = runs[name].stdout.replace(told, f'"involuntary_switches":{switches}')
        runs[name] = replace(runs[name], stdout=stdout)
    assert ours.read(runs, unet, protocol).memory["involuntary_switches"] == 4711


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_a_core_that_others_take_is_counted(ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path) -> None:
    core = f"{1 << min(os.sched_getaffinity(0)):x}"
    protocol = replace(SHORT, min_seconds=0.4)
    busy = subprocess.Popen(["taskset", core, sys.executable, "-c", "while True: pass"])
    try:
        (step,) = ours.steps(unet, protocol)
        pinned = replace(step, command=("taskset", core, *step.command))
        readings = ours.read(run_steps([pinned], unet, tmp_path / "device"), unet, protocol)
    finally:
        busy.kill()
        busy.wait()
    assert readings.memory["involuntary_switches"] >= 5, (
        "a time slice is some milliseconds, and half of them are not ours"
    )
    assert readings.affinity == core


def test_each_step_must_have_run(ours: MobilevdRunner, unet: BundleProgram, tmp_path: Path) -> None:
    protocol = replace(SHORT, cold_loads=2, memory_pass=True)
    runs = run_steps(ours.steps(unet, protocol), unet, tmp_path / "device")
    for name in runs:
        with pytest.raises(RunnerError, match=f"the step {name} was not run"):
            ours.read({other: run for other, run in runs.items() if other != name}, unet, protocol)
    failed = replace(runs["load-2"], exit_code=-9, stdout="")
    with pytest.raises(RunnerError, match="killed by SIGKILL"):
        ours.read({"load-1": runs["load-1"], "load-2": failed}, unet, protocol)
