"""Qualcomm's runner: which libraries go along, what its step does, and what of its log is believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import Platform, RawRun
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import PROTOCOLS, Protocol
from device_runner.runners.qnn import QnnRunner

ANDROID = Platform("android", "arm64-v8a")
SHORT = Protocol(warmup=2, iterations=5)
RunSteps = Callable[..., Mapping[str, RawRun]]

# The messages of qnn_executor_runner.cpp, in order.
MESSAGES = """\
Model file program.pte is loaded.
Using method forward
Setting up planned buffer 0, size 11264.
Method loaded.
Inputs prepared.
Number of inputs: 2
Perform 2 inference for warming up
Start inference (0)
5 inference took 61.500000 ms, avg 12.300000 ms
1 inference took 61.500000 ms, avg 61.500000 ms
"""


def logcat(messages: str) -> str:
    return "".join(f"11-21 17:22:49.123  4123  4123 I ExecuTorch: {line}\n" for line in messages.splitlines())


@pytest.fixture
def sdk(tmp_path: Path) -> Path:
    folder = tmp_path / "qairt" / "2.37.0.250724"
    names = [
        *("lib/aarch64-android/libQnnHtp.so", "lib/aarch64-android/libQnnHtpPrepare.so"),
        "lib/aarch64-android/libQnnSystem.so",
        *(f"lib/aarch64-android/libQnnHtpV{version}Stub.so" for version in (69, 75, 99)),
        # 99 lacks its Skel, as a partly unpacked SDK does.
        *(f"lib/hexagon-v{version}/unsigned/libQnnHtpV{version}Skel.so" for version in (69, 75)),
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where ExecuTorch's build leaves it; stands for the program by writing down what it was given."""
    build = tmp_path / "build-android"
    script = build / "examples/qualcomm/executor_runner/qnn_executor_runner"
    script.parent.mkdir(parents=True)
    script.write_text(
        "#!/bin/sh\n"
        'for a in "$@"; do case "$a" in --input_list_path=*) list=${a#*=} ;; --output_folder_path=*) out=${a#*=} ;; '
        "esac; done\n"
        'read -r first second < "$list"; [ -f "$second" ] || exit 3\n'
        'cat "$first" > "$out/output_0_0.raw"; env > "$out/environment"; printf "%s\\n" "$@" > "$out/arguments"\n'
        + "".join(f"echo 'I 00:00:00.1 executorch:q.cpp:1] {line}' >&2\n" for line in MESSAGES.splitlines())
    )
    script.chmod(0o755)
    (build / "backends/qualcomm").mkdir(parents=True)
    (build / "backends/qualcomm/libqnn_executorch_backend.so").write_text("backend")
    return script


def run_of(stderr: str, exit_code: int = 0) -> dict[str, RawRun]:
    return {"timed": RawRun("adb:X", exit_code, "", stderr, Path("out"))}


def test_qualcomms_libraries_go_along_in_pairs(path: Path, sdk: Path) -> None:
    runner = QnnRunner(path, ANDROID, sdk)
    assert set(runner.files()) == {
        "qnn_executor_runner",
        "libqnn_executorch_backend.so",
        *("libQnnHtp.so", "libQnnHtpPrepare.so", "libQnnSystem.so"),
        *("libQnnHtpV69Stub.so", "libQnnHtpV69Skel.so", "libQnnHtpV75Stub.so", "libQnnHtpV75Skel.so"),
    }
    assert all(file.is_file() for file in runner.files().values())
    assert runner.versions()["qnn_sdk"] == "2.37.0.250724"
    assert runner.executables() == {"qnn_executor_runner"}


def test_the_step_runs_and_is_read(
    path: Path, sdk: Path, program: BundleProgram, run_steps: RunSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "system"
    programs.mkdir()
    for name in ("log", "logcat"):  # on Android the system's; what the script says comes on stderr here
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    runner = QnnRunner(path, ANDROID, sdk)
    runs = run_steps(runner, program, SHORT)
    readings = runner.read(runs, program, SHORT)
    assert readings.average_ms == pytest.approx(12.3) and readings.iterations == 5
    assert readings.samples_ms == [] and readings.loads == []
    assert "average" in readings.notes[0]
    folder = runs["timed"].output_dir
    assert np.fromfile(readings.outputs[0].path, np.float32).tolist() == [0, 1, 2]
    lines = (folder / "environment").read_text().splitlines()
    environment = {name: value for name, _, value in (line.partition("=") for line in lines)}
    assert environment["LD_LIBRARY_PATH"].endswith("/runner")
    assert environment["ADSP_LIBRARY_PATH"].startswith(environment["LD_LIBRARY_PATH"] + ";/vendor/dsp/cdsp;")
    arguments = (folder / "arguments").read_text().splitlines()
    assert "--warm_up=2" in arguments and "--iteration=5" in arguments


def test_the_log_in_the_systems_form(path: Path, sdk: Path, program: BundleProgram) -> None:
    readings = QnnRunner(path, ANDROID, sdk).read(run_of(logcat(MESSAGES)), program, SHORT)
    assert readings.average_ms == pytest.approx(12.3)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("5 inference took", "4 inference took"), "asked for 2 warm-up and 5 timed runs, the runner reports 2 and 4"),
        (("Perform 2", "Perform 0"), "the runner reports 0 and 5"),
        (("Using method forward", "Using method x"), "ran method 'x'"),
        (("61.500000 ms, avg 12", "0.000000 ms, avg 0"), "took no time at all"),
        ((MESSAGES[MESSAGES.index("5 inference") :], ""), "does not say how long its runs took"),
    ],
)
def test_logs_that_are_not_as_asked_are_refused(
    path: Path, sdk: Path, program: BundleProgram, change: tuple[str, str], error: str
) -> None:
    with pytest.raises(RunnerError, match=error):
        QnnRunner(path, ANDROID, sdk).read(run_of(logcat(MESSAGES.replace(*change))), program, SHORT)


def test_a_failure_is_named(path: Path, sdk: Path, program: BundleProgram) -> None:
    log = logcat("Using method forward\n[ERROR] [Qnn ExecuTorch]: Failed to create device handle for Backend ID 6\n")
    with pytest.raises(RunnerError, match="SIGABRT: .*Failed to create device handle"):
        QnnRunner(path, ANDROID, sdk).read(run_of(log, 134), program, SHORT)


def test_what_is_missing_is_said(
    path: Path, sdk: Path, tmp_path: Path, program: BundleProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    with pytest.raises(RunnerError, match="QNN_SDK_ROOT is not set"):
        QnnRunner(path, ANDROID)
    with pytest.raises(RunnerError, match="gone: there is no qnn_executor_runner"):
        QnnRunner(tmp_path / "gone", ANDROID, sdk)
    with pytest.raises(RunnerError, match="runs on Android on arm64-v8a, not on linux on x86_64"):
        QnnRunner(path, Platform("linux", "x86_64"), sdk)
    with pytest.raises(RunnerError, match="confidence of protocol 'thorough'"):
        QnnRunner(path, ANDROID, sdk).steps(program, PROTOCOLS["thorough"])
    (sdk / "lib/aarch64-android/libQnnSystem.so").unlink()
    with pytest.raises(RunnerError, match="libQnnSystem.so is missing; QNN_SDK_ROOT is"):
        QnnRunner(path, ANDROID, sdk).files()
    with pytest.raises(RunnerError, match=r"libQnnHtpV\*Stub.so|libQnnHtp.so"):
        QnnRunner(path, ANDROID, tmp_path).files()
