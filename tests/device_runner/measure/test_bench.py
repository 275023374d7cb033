"""Several bundles on several devices: everything that can be measured is, and everything else is told."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_runner.bundle.read import Bundle, read_bundle
from device_runner.devices.base import Device
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, Progress, RawJob, Ready
from device_runner.errors import DeviceGone, RunnerError
from device_runner.measure.bench import Work, bench
from device_runner.measure.clip import clip_latency
from device_runner.measure.measure import Measurement, measure_program
from device_runner.protocol.protocol import Protocol
from device_runner.results.schema import read_report
from device_runner.runners.deployment import host_deployment
from device_runner.runners.mobilevd import MobilevdRunner

SHORT = Protocol(warmup=1, iterations=3, threads=1)


class Named(HostDevice):
    """This machine under another name, failing in a way of its own."""

    def __init__(self, name: str, failure: RunnerError | None = None, fails_on: str = "") -> None:
        self.name, self.failure, self.fails_on = name, failure, fails_on
        self.titles: list[str] = []
        self.running = threading.Event()

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        self.titles.append(job.title)
        if self.failure is not None and self.fails_on in job.title:
            raise self.failure
        self.running.set()
        return super().run(job, output_dir, ready, progress)


class Endless(Named):
    """Runs until it is told to stop."""

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        self.running.set()
        try:
            while True:
                time.sleep(0.01)
                progress("running", None)
        except KeyboardInterrupt:
            self.titles.append("stopped")
            raise


@pytest.fixture
def whole_path(bundle: Path, edit_manifest: Callable[..., None]) -> Bundle:
    """Four programs, which are the same one; five frames, decoded in twos."""

    def change(manifest: dict[str, Any]) -> None:
        unet = manifest["programs"]["unet"]
        order = ["image_encoder", "vae_encoder", "unet", "decoder"]
        manifest["programs"] = {name: unet for name in [*order, "decoder_rest"]}
        manifest["pipeline"] = {
            "order": order,
            "frames": {"count": 5},
            "decoder": {"frames_per_chunk": 2, "program_for_frames_left_over": "decoder_rest"},
        }
        manifest["model"] |= {"num_frames": 5, "fps": 7}

    edit_manifest(change)
    return read_bundle(bundle)


def work(runner: Path, *bundles: Bundle, programs: tuple[str, ...] = ()) -> Work:
    return Work(bundles, SHORT, programs, MobilevdRunner(host_deployment(runner)))


def test_a_clip_is_the_sum_of_its_programs(runner: Path, whole_path: Bundle, tmp_path: Path) -> None:
    report = bench(work(runner, whole_path), [HostDevice()]).report
    figures = {each["program"]: each["figure"]["ms"] for each in report["measurements"]}
    assert list(figures) == ["image_encoder", "vae_encoder", "unet", "decoder", "decoder_rest"]
    (clip,) = report["clips"]
    assert [(each["name"], each["runs"]) for each in clip["programs"]] == [
        ("image_encoder", 1),
        ("vae_encoder", 1),
        ("unet", 1),
        ("decoder", 2),
        ("decoder_rest", 1),
    ]
    assert clip["total_ms"] == pytest.approx(sum(figures.values()) + figures["decoder"])
    assert clip["ms_per_frame"] == pytest.approx(clip["total_ms"] / 5)
    (tmp_path / "report.json").write_text(json.dumps(report, allow_nan=False))
    assert read_report(tmp_path / "report.json")["clips"] == report["clips"]


def test_progress_says_which_program_of_how_many(runner: Path, whole_path: Bundle) -> None:
    told: list[str] = []
    progress = lambda device: lambda text, share: told.append(f"{device} {text}")  # noqa: E731
    bench(work(runner, whole_path, whole_path, programs=("unet", "decoder")), [HostDevice()], progress)
    beginnings = list(dict.fromkeys(text.partition(": ")[0] for text in told))
    assert beginnings == [
        "host small/unet (1 of 4)",
        "host small/decoder (2 of 4)",
        "host small/unet (3 of 4)",
        "host small/decoder (4 of 4)",
    ]
    assert "host small/unet (1 of 4): loading the program" in told


def test_a_part_of_the_path_is_no_clip(runner: Path, whole_path: Bundle) -> None:
    report = bench(work(runner, whole_path, programs=("unet",)), [HostDevice()]).report
    assert [each["program"] for each in report["measurements"]] == ["unet"] and report["clips"] == []


def test_an_emulated_part_leaves_no_total(runner: Path, whole_path: Bundle) -> None:
    ours = MobilevdRunner(host_deployment(runner))
    device = HostDevice()
    done = [measure_program(whole_path, program, device, SHORT, ours) for program in whole_path.programs.values()]
    done[2] = replace(done[2], emulated=True, figure=None)
    clip = clip_latency(whole_path, done)
    assert clip is not None and clip["emulated"] and clip["total_ms"] is None and clip["ms_per_frame"] is None


@pytest.mark.parametrize(
    ("decoder", "text"),
    [
        ({"frames_per_chunk": 0}, "frames_per_chunk must be from 1 to the 5 frames"),
        ({"frames_per_chunk": 6}, "frames_per_chunk must be from 1 to the 5 frames"),
        ({"frames_per_chunk": 2, "program_for_frames_left_over": "rest"}, "'rest' is not a program of the bundle"),
    ],
)
def test_a_path_that_does_not_add_up_is_refused(
    whole_path: Bundle, edit_manifest: Callable[..., None], decoder: dict[str, Any], text: str
) -> None:
    edit_manifest(lambda manifest: manifest["pipeline"].update(decoder=decoder))
    with pytest.raises(RunnerError, match=text):
        read_bundle(whole_path.folder)


def test_one_device_that_fails_leaves_the_others_results(runner: Path, bundle: Path) -> None:
    devices: list[Device] = [Named("a"), Named("b", RunnerError("b: no")), Named("c")]
    report = bench(work(runner, read_bundle(bundle)), devices).report
    assert [each["device"]["name"] for each in report["measurements"]] == ["a", "c"]
    assert report["failures"] == [{"bundle": "small", "device": "b", "program": "unet", "error": "b: no"}]


def test_one_program_that_fails_leaves_the_others_results(runner: Path, whole_path: Bundle) -> None:
    device = Named("a", RunnerError("a: no"), fails_on="vae_encoder")
    report = bench(work(runner, whole_path), [device]).report
    assert len(report["measurements"]) == 4 and report["clips"] == []
    assert [each["program"] for each in report["failures"]] == ["vae_encoder"]


def test_nothing_more_is_asked_of_a_device_that_is_gone(runner: Path, whole_path: Bundle) -> None:
    device = Named("a", DeviceGone("a: gone"), fails_on="vae_encoder")
    report = bench(work(runner, whole_path), [device]).report
    assert [title.rpartition("/")[2] for title in device.titles] == ["image_encoder", "vae_encoder"]
    assert [each["program"] for each in report["measurements"]] == ["image_encoder"]


def test_a_single_failure_is_the_error_itself(runner: Path, bundle: Path) -> None:
    with pytest.raises(RunnerError, match="^a: no$"):
        bench(work(runner, read_bundle(bundle)), [Named("a", RunnerError("a: no"))])
    with pytest.raises(RunnerError, match="no program 'decoder'; it has: unet"):
        bench(work(runner, read_bundle(bundle), programs=("decoder",)), [HostDevice()])


def test_ctrl_c_stops_every_device(runner: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [Endless("a"), Endless("b")]
    real_wait = __import__("concurrent.futures").futures.wait

    def interrupted(futures: Any, *arguments: Any, **options: Any) -> Any:
        if "timeout" in options and all(device.running.is_set() for device in devices):
            raise KeyboardInterrupt
        return real_wait(futures, *arguments, **options)

    monkeypatch.setattr("device_runner.measure.bench.wait", interrupted)
    done = bench(work(runner, read_bundle(bundle)), devices)
    assert done.stopped and done.report["measurements"] == []
    assert [device.titles for device in devices] == [["stopped"], ["stopped"]]


def test_what_was_measured_before_ctrl_c_is_kept(runner: Path, whole_path: Bundle) -> None:
    def interrupt(bundle: Bundle, device: Device, measurement: Measurement, progress: Progress) -> Measurement:
        if measurement.program == "unet":
            raise KeyboardInterrupt
        return measurement

    done = bench(replace(work(runner, whole_path), after=interrupt), [HostDevice()])
    assert done.stopped
    assert [each["program"] for each in done.report["measurements"]] == ["image_encoder", "vae_encoder", "unet"]


def test_whatever_goes_wrong_costs_no_other_result(runner: Path, whole_path: Bundle) -> None:
    """Also an error that nobody thought of; and what is done after a measurement does not take it away."""

    def fail(bundle: Bundle, device: Device, measurement: Measurement, progress: Progress) -> Measurement:
        if measurement.program == "unet":
            raise ValueError("no trace")
        return measurement

    report = bench(replace(work(runner, whole_path), after=fail), [HostDevice()]).report
    assert len(report["measurements"]) == 5 and len(report["clips"]) == 1
    assert [(each["program"], each["error"]) for each in report["failures"]] == [("unet", "host: ValueError: no trace")]


def test_where_nothing_was_measured_there_is_no_report(runner: Path, bundle: Path) -> None:
    devices: list[Device] = [Named("a", RunnerError("a: no")), Named("b", RunnerError("b: neither"))]
    with pytest.raises(RunnerError, match="^a: no; b: neither$"):
        bench(work(runner, read_bundle(bundle)), devices)


def test_a_program_that_is_named_twice_is_measured_once(runner: Path, bundle: Path) -> None:
    report = bench(work(runner, read_bundle(bundle), programs=("unet", "unet")), [HostDevice()]).report
    assert len(report["measurements"]) == 1
