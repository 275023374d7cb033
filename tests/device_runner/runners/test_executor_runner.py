"""Upstream's `executor_runner`: its steps run for real with a script in its place, its logs are those of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import Platform, RawRun
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import PROTOCOLS, Protocol
from device_runner.runners.executor_runner import ExecutorRunner
from device_runner.runners.executorch_log import marker_of

LINUX, ANDROID = Platform("linux", "x86_64"), Platform("android", "arm64-v8a")
SHORT = Protocol(warmup=1, iterations=3, threads=2)
RunSteps = Callable[..., Mapping[str, RawRun]]

# Form and messages as in executor_runner.cpp and runtime/platform/default/posix.cpp.
LOG = """\
I 00:00:00.000526 executorch:executor_runner.cpp:206] Resetting threadpool with num threads = 2
I 00:00:00.000561 executorch:executor_runner.cpp:251] Loading inputs from input file(s).
I 00:00:00.012250 executorch:executor_runner.cpp:340] Model file /data/program.pte is loaded.
I 00:00:00.012263 executorch:executor_runner.cpp:349] Using method forward
I 00:00:00.012268 executorch:executor_runner.cpp:400] Setting up planned buffer 0, size 11264.
I 00:00:00.412268 executorch:executor_runner.cpp:519] Model executed successfully 4 time(s) in 44.100000 ms.
I 00:00:00.412271 executorch:executor_runner.cpp:528] 1 outputs:
I 00:00:00.412275 executorch:executor_runner.cpp:540] Writing output to file: output-0.bin
"""
EACH = """\
I 00:00:00.012268 executorch:executor_runner.cpp:560] Model loaded in 7.250000 ms.
I 00:00:00.112268 executorch:executor_runner.cpp:710] Iteration 1 of 4: 14.000000 ms
I 00:00:00.212268 executorch:executor_runner.cpp:710] Iteration 2 of 4: 10.000000 ms
I 00:00:00.312268 executorch:executor_runner.cpp:710] Iteration 3 of 4: 10.100000 ms
I 00:00:00.402268 executorch:executor_runner.cpp:710] Iteration 4 of 4: 10.000000 ms
"""
NEWER_LOG = LOG.replace("I 00:00:00.412268", EACH + "I 00:00:00.412268")


def logcat(log: str, form: str = "threadtime") -> str:
    """The same messages as Android's log shows them."""
    lines = [line.partition("] ") for line in log.splitlines()]
    head = "11-21 17:22:49.123  4123  4123 I ExecuTorch: " if form == "threadtime" else "I/ExecuTorch( 4123): "
    return "--------- beginning of main\n" + "".join(f"{head}{message}\n" for _, _, message in lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Stands for the program: says LOG, adds its inputs up like the real one, leaves an ETDump where it stands."""
    (tmp_path / "log").write_text(LOG)
    script = tmp_path / "upstream executor_runner"
    script.write_text(
        "#!/bin/sh\n"
        'for a in "$@"; do case "$a" in --inputs=*) inputs=${a#*=} ;; --output_file=*) out=${a#*=} ;; esac; done\n'
        'printf "%s\\n" "$@" > arguments; echo trace > model.etdump\n'
        'cat "${inputs%%,*}" > "$out-0.bin"\n'
        f"cat '{tmp_path}/log' >&2\n"
    )
    script.chmod(0o755)
    return script


def run_of(stderr: str, exit_code: int = 0, folder: Path = Path("out")) -> dict[str, RawRun]:
    return {"timed": RawRun("adb:X", exit_code, "OutputX 0: tensor(sizes=[3], [0., 1., 2.])\n", stderr, folder)}


def test_the_step_runs_and_is_read(path: Path, program: BundleProgram, run_steps: RunSteps) -> None:
    runner = ExecutorRunner(path, LINUX)
    runs = run_steps(runner, program, SHORT)
    assert runs["timed"].exit_code == 0, runs["timed"].stderr
    readings = runner.read(runs, program, SHORT)
    assert readings.samples_ms == [] and readings.loads == [] and readings.memory == {}
    assert readings.average_ms == pytest.approx(11.025)
    assert readings.iterations == 4, "the average is of all runs, and the note says so"
    assert "the average is of all 4 runs, the first 1" in readings.notes[1]
    assert np.fromfile(readings.outputs[0].path, np.float32).tolist() == [0, 1, 2]
    folder = runs["timed"].output_dir
    arguments = (folder / "arguments").read_text().splitlines()
    assert "--num_executions=4" in arguments and "--cpu_threads=2" in arguments
    assert (folder / "model.etdump").exists(), "it works in its own folder, not in the one this program runs in"


@pytest.mark.parametrize("form", ["posix", "threadtime", "brief"])
def test_a_newer_runner_tells_every_run(path: Path, program: BundleProgram, form: str) -> None:
    log = NEWER_LOG if form == "posix" else logcat(NEWER_LOG, form)
    readings = ExecutorRunner(path, ANDROID).read(run_of(log), program, SHORT)
    assert readings.warmup_ms == [14.0]
    assert readings.samples_ms == [10.0, 10.1, 10.0]
    assert readings.loads == [{"total": 7.25}]
    assert readings.average_ms is None and readings.iterations == 3


def test_on_android_only_this_runs_lines_of_the_log_count(
    path: Path, program: BundleProgram, run_steps: RunSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for `log` and `logcat` that share a file, in which an earlier run left another result."""
    programs, system_log = tmp_path / "system", tmp_path / "system log"
    programs.mkdir()
    earlier = logcat(LOG.replace("44.1", "99.9"))
    marker = marker_of("executor_runner", program, SHORT)
    system_log.write_text(f"11-21 17:00:00.000  1  1 I ExecuTorch: {marker}\n{earlier}")
    (tmp_path / "log").write_text(logcat(LOG))
    line = "11-21 17:22:00.000  1  1 I $2: $3"
    (programs / "log").write_text(f'#!/bin/sh\n[ "$1" = -t ] && echo "{line}" >> \'{system_log}\'\n')
    (programs / "logcat").write_text(
        f"#!/bin/sh\n[ \"$*\" = '-d -v threadtime -s ExecuTorch:V' ] && cat '{system_log}'\n"
    )
    # On Android the runner's own log goes to the system, not to stderr.
    path.write_text(path.read_text().replace(">&2", f">> '{system_log}'"))
    for name in ("log", "logcat"):
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    runner = ExecutorRunner(path, ANDROID)
    readings = runner.read(run_steps(runner, program, SHORT), program, SHORT)
    assert readings.average_ms == pytest.approx(11.025), "not the 25 ms of the earlier run"


def test_the_end_of_the_systems_log_is_waited_for(
    path: Path, program: BundleProgram, run_steps: RunSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`logcat` shows the last lines only when it is asked the fourth time; an earlier run of the same left its markers."""
    programs, system_log, asked = tmp_path / "system", tmp_path / "system log", tmp_path / "asked"
    programs.mkdir()
    marker = marker_of("executor_runner", program, SHORT)
    earlier = logcat(LOG.replace("44.1", "99.9"))
    head = "11-21 17:00:00.000  1  1 I ExecuTorch:"
    system_log.write_text(f"{head} {marker}\n{earlier}{head} {marker}-end-77\n")
    (tmp_path / "log").write_text(logcat(LOG))
    (programs / "log").write_text(f"#!/bin/sh\necho \"11-21 17:22:00.000  1  1 I $2: $3\" >> '{system_log}'\n")
    (programs / "logcat").write_text(
        f"#!/bin/sh\necho x >> '{asked}'\n"
        f"if [ $(wc -l < '{asked}') -lt 4 ]; then head -n -4 '{system_log}'; else cat '{system_log}'; fi\n"
    )
    path.write_text(path.read_text().replace(">&2", f">> '{system_log}'"))
    for name in ("log", "logcat"):
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    runner = ExecutorRunner(path, ANDROID)
    runs = run_steps(runner, program, SHORT)
    assert runner.read(runs, program, SHORT).average_ms == pytest.approx(11.025)
    assert len(asked.read_text().split()) == 5 and runs["timed"].stderr.count(f"{marker}-end-") == 2
    # What others log afterwards is not the runner's.
    later = RawRun("adb:X", 0, "", runs["timed"].stderr + f"{head} Resetting threadpool with num threads = 9\n", path)
    assert runner.read({"timed": later}, program, SHORT).iterations == 4


def test_a_log_that_lost_the_run_is_refused(path: Path, program: BundleProgram) -> None:
    other = "11-21 17:00:00.000  1  1 I ExecuTorch: mobilevd-0123456789abcdef\n"
    with pytest.raises(RunnerError, match="does not hold this run any more"):
        ExecutorRunner(path, ANDROID).read(run_of(other + logcat(LOG)), program, SHORT)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("4 time(s)", "3 time(s)"), "asked for 4 runs, the runner reports 3"),
        (("44.100000", "0.000000"), "took no time at all"),
        (("threads = 2", "threads = 0"), "asked for 2 threads, the runner set 0"),
        (("Using method forward", "Using method encode"), "ran method 'encode', 'forward' was asked for"),
        (("Model executed", "Model was executed"), "does not say how long its runs took"),
        (("Resetting threadpool", "No threadpool"), "built without a thread pool"),
        ((LOG[LOG.index("I 00:00:00.412268") :], ""), "does not say how long its runs took"),
    ],
)
def test_logs_that_are_not_as_asked_are_refused(
    path: Path, program: BundleProgram, change: tuple[str, str], error: str
) -> None:
    with pytest.raises(RunnerError, match=error.replace("(", "[(]")):
        ExecutorRunner(path, LINUX).read(run_of(LOG.replace(*change)), program, SHORT)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ((EACH.splitlines(True)[2], ""), "tells 3 runs, not 1 to 4 in order"),
        (("Iteration 3 of 4", "Iteration 3 of 5"), "not 1 to 4 in order"),
        (("10.100000", "30.100000"), "the runs take 64.100 ms together, the runner says 44.100 ms"),
    ],
)
def test_runs_that_do_not_add_up_are_refused(
    path: Path, program: BundleProgram, change: tuple[str, str], error: str
) -> None:
    with pytest.raises(RunnerError, match=error):
        ExecutorRunner(path, LINUX).read(run_of(NEWER_LOG.replace(*change)), program, SHORT)


def test_a_crash_is_named_with_the_last_message(path: Path, program: BundleProgram) -> None:
    failed = "E 00:00:00.012 executorch:method.cpp:1] Backend XnnpackBackend is not registered.\n"
    with pytest.raises(RunnerError, match="adb:X: the runner was killed by SIGABRT: Backend XnnpackBackend is not reg"):
        ExecutorRunner(path, LINUX).read(run_of(failed, 134), program, SHORT)
    with pytest.raises(RunnerError, match="exit code 1: error while loading shared libraries: libgflags.so"):
        ExecutorRunner(path, LINUX).read(
            run_of("error while loading shared libraries: libgflags.so\n", 1), program, SHORT
        )


@pytest.mark.parametrize("name", ["thorough", "mlperf-single-stream", "sustained"])
def test_protocols_that_watch_the_clock_are_refused(path: Path, program: BundleProgram, name: str) -> None:
    with pytest.raises(RunnerError, match=f"cannot keep to (min_seconds|confidence) of protocol '{name}'"):
        ExecutorRunner(path, LINUX).steps(program, PROTOCOLS[name])


def test_the_builds_own_weight_cache_is_left_alone(path: Path, program: BundleProgram) -> None:
    with pytest.raises(RunnerError, match="cannot keep to weight_cache of protocol"):
        ExecutorRunner(path, LINUX).steps(program, replace(SHORT, weight_cache="on"))


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="gone: there is no executor_runner"):
        ExecutorRunner(tmp_path / "gone", LINUX)
