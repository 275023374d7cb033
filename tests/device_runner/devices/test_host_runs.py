"""How this machine runs a job: alone, on cores that there are, and never longer than the program that asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from device_runner.devices import lock as sole_use
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, RawJob, Step
from device_runner.devices.lock import sole_use_of_host
from device_runner.errors import RunnerError

# Runs a job on the host whose step is the shell text of the second argument, in the folder of the first.
BENCH = """
import sys
from pathlib import Path
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, Step
step = Step("timed", ("sh", "-c", sys.argv[2]))
job = Job("0" * 64, "a job", {}, frozenset(), {}, (step,), 60.0)
HostDevice().run(job, Path(sys.argv[1]), lambda: None, lambda text, share: None)
"""
HOLDER = """
import sys, time
from device_runner.devices.lock import sole_use_of_host
with sole_use_of_host(lambda text, share: None):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of these tests is not the one of the machine."""
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "cache"))


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def run_here(text: str, out: Path, cpu_mask: str | None = None, timeout_s: float = 60.0) -> RawJob:
    step = Step("timed", ("sh", "-c", text))
    job = Job("0" * 64, "a job", {}, frozenset(), {}, (step,), timeout_s, cpu_mask=cpu_mask)
    out.mkdir()
    return HostDevice().run(job, out, lambda: None, lambda text, share: None)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_runner_and_its_children_die_with_the_bench(tmp_path: Path, how: signal.Signals) -> None:
    out, pids = tmp_path / "out", tmp_path / "pids"
    out.mkdir()
    text = f"sleep 61 & echo $$ $! > '{pids}.part'; mv '{pids}.part' '{pids}'; wait"
    bench = subprocess.Popen([sys.executable, "-c", BENCH, str(out), text])
    try:
        assert until(pids.exists)
        started = [int(pid) for pid in pids.read_text().split()]
        assert all(map(running, started))
        guards = [child.pid for child in psutil.Process(bench.pid).children() if child.pid not in started]
        bench.send_signal(how)
        assert bench.wait(10) == -how
        assert until(lambda: not any(map(running, [*started, *guards]))), "something outlived the bench"
    finally:
        bench.kill()
        bench.wait()


def test_a_run_that_ends_leaves_no_process(tmp_path: Path) -> None:
    before = psutil.Process().children(recursive=True)
    assert run_here("exit 3", tmp_path / "out").steps["timed"].exit_code == 3
    assert psutil.Process().children(recursive=True) == before


def test_a_second_measurement_is_refused_and_told_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sole_use, "WAIT_S", 0.2)
    run_here("exit 0", tmp_path / "earlier")  # its number must not be the one that is told
    first = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        with pytest.raises(
            RunnerError, match=f"^host: process {first.pid} is measuring on this machine; a measurement"
        ):
            run_here(f"touch '{tmp_path}/ran'", tmp_path / "refused")
        assert not (tmp_path / "ran").exists()
        monkeypatch.setattr(HostDevice, "works_itself", False)
        assert run_here("exit 0", tmp_path / "driver").steps["timed"].exit_code == 0, (
            "its cores are not what is measured"
        )
        monkeypatch.setattr(HostDevice, "works_itself", True)
    finally:
        first.kill()
        first.communicate()
    assert run_here("exit 0", tmp_path / "accepted").steps["timed"].exit_code == 0, "a dead process holds nothing"


def test_one_that_is_about_to_end_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within one process: a lock is of the measurement, not of the process."""
    monkeypatch.setattr(sole_use, "WAIT_S", 5.0)
    said: list[str] = []
    first = sole_use_of_host(lambda text, share: None)
    first.__enter__()

    def progress(text: str, share: float | None) -> None:
        if not said:
            first.__exit__(None, None, None)
        said.append(text)

    with sole_use_of_host(progress):
        pass
    assert said == [f"waiting for process {os.getpid()}, which is measuring here"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunnerError, match="file: cannot be written: .*; set MOBILEVD_CACHE"):
        run_here("exit 0", tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process to cores")
def test_a_mask_with_a_core_too_many_is_refused_before_anything_runs(tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    usable, beyond = sum(1 << core for core in cores), 1 << (max(cores) + 1)
    with pytest.raises(RunnerError) as caught:
        run_here(f"touch '{tmp_path}/ran'", tmp_path / "out", cpu_mask=f"{usable | beyond:x}")
    assert str(caught.value) == (
        f"host: the cpu mask {usable | beyond:x} holds cores that are not usable here ({beyond:x}); usable: {usable:x}"
    )
    assert not (tmp_path / "ran").exists()
    assert run_here("exit 0", tmp_path / "right", cpu_mask=f"{usable:x}").steps["timed"].exit_code == 0


def test_a_run_that_takes_too_long_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(
        RunnerError, match=r"^host: a job: the runner was stopped after 0\.2 s; allow more with --timeout$"
    ):
        run_here("sleep 60", tmp_path / "out", timeout_s=0.2)
