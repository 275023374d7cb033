"""Measures bundles on devices, several phones at once, and collects everything in one report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from device_runner.bundle.read import Bundle
from device_runner.devices.base import Device
from device_runner.devices.job import Progress
from device_runner.errors import DeviceGone, RunnerError
from device_runner.measure.clip import clip_latency
from device_runner.measure.measure import Measurement, measure_program, no_progress
from device_runner.protocol.protocol import Protocol
from device_runner.results.schema import KIND, SCHEMA_VERSION
from device_runner.runners.base import Runner

AfterMeasurement = Callable[[Bundle, Device, Measurement, Progress], Measurement]


@dataclass(frozen=True)
class Work:
    """The bundles and settings to measure on every device."""

    bundles: Sequence[Bundle]
    protocol: Protocol
    programs: Sequence[str] = ()
    """Names of the programs; empty for all of each bundle."""
    runner: str | Runner | None = None
    method: str | None = None
    """Method of every program; None for the manifest's."""
    after: AfterMeasurement | None = None
    """Function called with each measurement as soon as it is made; its result replaces the measurement. If it fails,
    the measurement stays as it is and the failure is listed."""


@dataclass(frozen=True)
class Benched:
    """The result of `bench`."""

    report: dict[str, Any]
    """Report in the form of `results/schema.py`."""
    stopped: bool
    """True if KeyboardInterrupt ended it: the report then holds what was done before."""


@dataclass
class _Gathered:
    measurements: list[Measurement] = field(default_factory=list)
    clips: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


def bench(
    work: Work, devices: Sequence[Device], progress: Callable[[str], Progress] = lambda device: no_progress
) -> Benched:
    """Measure on all devices at once, the programs of each device one after the other.

    A failure on one device, or of one program, leaves the other results as they are and is listed in the report. On
    KeyboardInterrupt all devices are stopped, and the report holds what is done by then.

    Args:
        progress: function from a device's name to the function that gets its progress.

    Raises `RunnerError` for a program that a bundle does not have, or if nothing at all could be measured.
    """
    for bundle in work.bundles:
        for name in work.programs:
            bundle.program(name)
    interrupted = threading.Event()
    gathered = [_Gathered() for _ in devices]

    def one_device(device: Device, into: _Gathered) -> None:
        tell = progress(device.name)

        def tell_or_stop(text: str, share: float | None) -> None:
            # Ctrl-C reaches the main thread alone; a worker thread notices it when it next reports progress.
            if interrupted.is_set():
                raise KeyboardInterrupt
            tell(text, share)

        _measure_on(device, work, tell_or_stop, into)

    stopped = False
    try:
        if len(devices) == 1:
            one_device(devices[0], gathered[0])
        else:
            _in_parallel(one_device, devices, gathered, interrupted)
    except KeyboardInterrupt:
        stopped = True
    failures = [failure for each in gathered for failure in each.failures]
    measurements = [measurement for each in gathered for measurement in each.measurements]
    if not measurements and failures and not stopped:
        raise RunnerError("; ".join(failure["error"] for failure in failures))
    report = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "measurements": [measurement.to_json() for measurement in measurements],
        "clips": [clip for each in gathered for clip in each.clips],
        "failures": failures,
    }
    return Benched(report, stopped)


def _in_parallel(
    one_device: Callable[[Device, _Gathered], None],
    devices: Sequence[Device],
    gathered: Sequence[_Gathered],
    interrupted: threading.Event,
) -> None:
    with ThreadPoolExecutor(max_workers=max(1, len(devices))) as pool:
        futures = [pool.submit(one_device, *each) for each in zip(devices, gathered, strict=True)]
        try:
            pending = set(futures)
            while pending:  # a wait without a time limit would not let Ctrl-C through on every system
                _, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            interrupted.set()
            for device in devices:
                device.cancel()
            wait(futures)
            raise
        for future in futures:
            future.result()


def _measure_on(device: Device, work: Work, progress: Progress, into: _Gathered) -> None:
    names = [list(dict.fromkeys(work.programs or bundle.programs)) for bundle in work.bundles]
    total, number = sum(map(len, names)), 0
    for bundle, of_bundle in zip(work.bundles, names, strict=True):
        done: list[Measurement] = []
        try:
            for name in of_bundle:
                number += 1
                what = f"{bundle.name}/{name} ({number} of {total})"
                if not _measure_one(device, work, bundle, name, what, progress, into, done):
                    return
        finally:
            into.measurements += done
            if clip := clip_latency(bundle, done):
                into.clips.append(clip)


def _measure_one(
    device: Device,
    work: Work,
    bundle: Bundle,
    name: str,
    what: str,
    progress: Progress,
    into: _Gathered,
    done: list[Measurement],
) -> bool:
    """Measure one program of one bundle, called `what` in progress; return whether the device can still be used."""
    program = bundle.program(name)
    if work.method is not None:
        program = replace(program, method=work.method)

    def tell(text: str, share: float | None) -> None:
        progress(f"{what}: {text}", share)

    try:
        done.append(measure_program(bundle, program, device, work.protocol, work.runner, progress=tell))
        if work.after is not None:
            done[-1] = work.after(bundle, device, done[-1], tell)
    except Exception as error:  # whatever it is, the other results must not be lost with it
        text = str(error) if isinstance(error, RunnerError) else f"{device.name}: {type(error).__name__}: {error}"
        into.failures.append({"bundle": bundle.name, "device": device.name, "program": name, "error": text})
        return not isinstance(error, DeviceGone)
    return True
