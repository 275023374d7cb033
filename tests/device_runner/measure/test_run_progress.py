"""What is told while runs go on: how many of how many, and how long they will take, by a clock that obeys the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_runner.bundle.read import read_bundle
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, Step
from device_runner.measure.make_job import make_job
from device_runner.measure.run_progress import RunProgress, duration
from device_runner.protocol.protocol import Protocol, named_protocol
from device_runner.runners.deployment import host_deployment
from device_runner.runners.executor_runner import ExecutorRunner
from device_runner.runners.mobilevd import MobilevdRunner

SINGLE_STREAM, THOROUGH = named_protocol("mlperf-single-stream"), named_protocol("thorough")


class Runs:
    """A runner that takes `run_s` for each run, looked at whenever the test likes."""

    def __init__(self, protocol: Protocol, run_s: float, load_s: float = 2.0) -> None:
        self.run_s, self.load_s, self.now_s = run_s, load_s, 0.0
        self.progress = RunProgress(protocol, clock=lambda: self.now_s)

    def at(self, seconds: float) -> tuple[str, float | None]:
        """Look each second until then; return what is told at last."""
        while True:
            since_load = self.now_s - self.load_s
            told = self.progress("timed", 0 if since_load < 0 else 1 + int(since_load / self.run_s + 1e-9))
            if self.now_s >= seconds:
                return told
            self.now_s += min(1.0, seconds - self.now_s)


def test_single_stream_tells_runs_and_the_time_left() -> None:
    runs = Runs(SINGLE_STREAM, run_s=0.5)
    assert runs.at(1.0) == ("loading the program", None)
    assert runs.at(2.2) == ("warm-up run 1 of 3", None)
    text, share = runs.at(2 + 3 * 0.5 + 256 * 0.5)
    assert text == "run 257 of at least 1024, about 6 min left" and share == pytest.approx(0.25, abs=0.01)
    text, share = runs.at(2 + 3 * 0.5 + 1000 * 0.5)
    assert text.startswith("run 1001 of at least 1024, about 12 s") and share == pytest.approx(0.976, abs=0.01)


def test_short_runs_go_on_until_they_took_long_enough() -> None:
    runs = Runs(SINGLE_STREAM, run_s=0.02)
    assert runs.at(2 + 0.06 + 45)[0] == "run 2251, on until they took 60 s, about 15 s left"
    assert runs.at(2 + 0.06 + 10)[0].startswith("run 2")


def test_a_search_for_the_median_tells_its_limits() -> None:
    runs = Runs(THOROUGH, run_s=1.0)
    assert runs.at(2 + 3 + 20)[0] == "run 21 of at least 50, at least 30 s left"
    assert runs.at(2 + 3 + 100)[0] == (
        "run 101, at most 2000, on until the median is known to 2 %, at most 8 min left"  # 600 s are the limit
    )


def test_the_estimate_goes_on_during_a_long_run() -> None:
    runs = Runs(named_protocol("quick"), run_s=100.0, load_s=0.0)
    assert runs.at(250)[0] == "warm-up run 3 of 3"  # one run was seen from end to end, which is too few
    assert runs.at(2 * 100 + 3 * 100)[0] == "run 3 of 20, about 30 min left"
    assert runs.at(2 * 100 + 3 * 100 + 90)[0] == "run 3 of 20, about 29 min left"
    assert runs.at(99_999)[0] == "run 20 of 20, about 1 s left"  # the lines of the outputs are no runs


def test_the_other_steps_are_named() -> None:
    progress = RunProgress(THOROUGH)
    assert progress("load-2", 0) == ("load 2 of 3, timed alone", None)
    assert progress("memory", 2) == ("measuring the memory, in a run of its own", None)
    assert progress("profile", 2) == ("running profile (2 lines)", None)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (200, "3 min"), (4800, "1 h 20 min")])
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_only_runners_with_a_line_per_run_are_counted(runner: Path, bundle: Path) -> None:
    read = read_bundle(bundle)
    ours = MobilevdRunner(host_deployment(runner))
    job = make_job(read, read.program("unet"), SINGLE_STREAM, ours)
    assert job.told("timed", 0) == ("loading the program", None)
    assert not getattr(ExecutorRunner, "prints_events", False)


def test_the_host_counts_lines_while_a_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("device_runner.devices.host.LOOK_S", 0.1)
    step = Step("timed", ("sh", "-c", "echo a; echo b; sleep 1; echo c; printf d; sleep 1.5"))
    told: list[tuple[str, float | None]] = []
    job = Job("0" * 64, "a job", {}, frozenset(), {}, (step,), 60.0, told=lambda step, lines: (f"{step} {lines}", 0.5))
    (tmp_path / "out").mkdir()
    HostDevice().run(job, tmp_path / "out", lambda: None, lambda text, share: told.append((text, share)))
    assert list(dict.fromkeys(told)) == [("timed 0", 0.5), ("timed 2", 0.5), ("timed 3", 0.5)]
