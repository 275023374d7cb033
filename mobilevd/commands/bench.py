"""`mobilevd bench`: measures bundles on devices, prints tables and writes files."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from device_runner.bundle.read import Bundle, read_bundle
from device_runner.devices.base import Device
from device_runner.devices.job import Progress
from device_runner.devices.kinds import open_devices
from device_runner.errors import RunnerError
from device_runner.measure.bench import AfterMeasurement, Work, bench
from device_runner.measure.measure import Measurement
from device_runner.measure.trace import RUNS, take_trace, tracing_step
from device_runner.protocol.protocol import Protocol, named_protocol, sustained_for
from device_runner.results.table import print_report
from device_runner.runners.choose import choose_runner
from mobilevd.commands.bench_files import BenchFiles
from mobilevd.commands.console import PipeConsole, show_progress
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json

FAILED, INTERRUPTED = 1, 130
ONE_AT_A_TIME = threading.Lock()
"""Lock for reading traces: ExecuTorch's reader prints as it likes, and silencing it affects the whole process."""


def choose_protocol(name: str, minutes: float | None, settings: Mapping[str, Any]) -> Protocol:
    """Return the named protocol, with the settings that are not None in place of its own.

    A changed number of warm-up or timed iterations becomes part of the protocol's name. Settings that every device
    needs (threads, cores, how to load) and limits of waiting leave the name as it is.
    """
    protocol = named_protocol(name)
    if minutes is not None:
        if name != "sustained":
            raise UserError(f"--minutes goes with --protocol sustained, not {name}")
        protocol = sustained_for(minutes)
    given = {key: value for key, value in settings.items() if value is not None}
    changed = {"warmup", "iterations"} & given.keys()
    if "iterations" in given and protocol.max_iterations is not None:
        given["max_iterations"] = max(protocol.max_iterations, given["iterations"])
    if changed:
        given["name"] = f"{name} ({', '.join(f'{key} {given[key]}' for key in sorted(changed))})"
    return replace(protocol, **given)


def bench_bundles(
    bundles: Sequence[Path],
    device_names: Sequence[str],
    protocol: Protocol,
    programs: Sequence[str] = (),
    runner: str | None = None,
    method: str | None = None,
    adb: str | None = None,
    profile: bool = False,
    files: BenchFiles | None = None,
    console: Console | None = None,
) -> int:
    """Measure, print the table and write the files; return the exit code.

    Raises `RunnerError` or `UserError` for what prevents all measurements.
    """
    console, files = console or PipeConsole(), files or BenchFiles()
    files.check(bundles)
    read = [read_bundle(folder) for folder in {folder.resolve(): folder for folder in bundles}.values()]
    devices = open_devices(list(device_names), adb, lambda text: console.print(Text(text), soft_wrap=True))
    after = _tracing(read, devices, protocol, programs, runner) if profile else None
    with _ended_like_ctrl_c(), show_progress(console) as progress:
        done = bench(Work(read, protocol, programs, runner, method, after), devices, progress)
    report = done.report
    if report["measurements"] or report["failures"]:
        print_report(report, console)
        _print_profiles(report, console)
    if report["measurements"]:
        for file in files.write(report):
            console.print(f"written: {file}", highlight=False, markup=False, soft_wrap=True)
    if done.stopped:
        count = len(report["measurements"])
        console.print(f"stopped; {count} program(s) had been measured, and nothing runs on the devices any more")
        return INTERRUPTED
    return FAILED if report["failures"] else 0


def _print_profiles(report: Mapping[str, Any], console: Console) -> None:
    for measurement in report["measurements"]:
        if measurement["profile"]:
            from mobilevd.commands.profile import print_profile

            console.print(Text(f"\n{measurement['program']} on {measurement['device']['name']}", style="bold"))
            print_profile(measurement["profile"], console)


def _tracing(
    bundles: Sequence[Bundle],
    devices: Sequence[Device],
    protocol: Protocol,
    programs: Sequence[str],
    runner: str | None,
) -> AfterMeasurement:
    """Return a callback that traces a program on its device after its measurement, and reads the bundle's origins.

    Raises `RunnerError` at once for a runner that cannot trace, not after the first measurement.
    """
    for bundle in bundles:
        for device in devices:
            name = next(iter(programs or bundle.programs))
            tracing_step(choose_runner(bundle, device, runner), bundle.program(name), protocol)

    def trace(bundle: Bundle, device: Device, measurement: Measurement, progress: Progress) -> Measurement:
        if measurement.emulated:
            return replace(measurement, notes=[*measurement.notes, "not traced: the times of an emulated processor"])
        from mobilevd.commands.profile import read_profile

        program = replace(bundle.program(measurement.program), method=measurement.method)
        with tempfile.TemporaryDirectory(prefix="mobilevd-trace-") as folder:
            chosen = choose_runner(bundle, device, runner)
            dump = take_trace(bundle, program, device, protocol, chosen, Path(folder), progress)
            progress("reading the trace", None)
            try:
                with ONE_AT_A_TIME:
                    return replace(measurement, profile=read_profile(dump, bundle, program.name, RUNS))
            except UserError as error:
                raise RunnerError(f"{device.name}: {bundle.name}/{program.name}: no profile: {error}") from None

    return trace


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C: a cancelled job must leave no program running, here or on a phone."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def bench_blocks(
    model: Path,
    device_names: Sequence[str],
    protocol: Protocol,
    adb: str | None,
    json: Path | None,
    table: Path | None,
    console: Console | None = None,
) -> None:
    """Measure the latency table of a model's blocks on one device, or predict a latency from a saved table."""
    from mobilevd.commands.block_display import print_block_table, print_prediction
    from mobilevd.commands.block_table import KIND, PREDICTION, block_table, predict_file

    console = console or PipeConsole()
    BenchFiles(json).check([model, *([table] if table else [])], KIND if table is None else PREDICTION)
    if table is not None:
        prediction = predict_file(table, model)
        if json is not None:
            atomic_write_json(json, prediction)
        print_prediction(prediction, console)
        return
    if len(device_names) != 1 or device_names[0] == "all":
        raise RunnerError("--blocks measures on one device: give one --device (host, adb or adb:SERIAL)")
    with _ended_like_ctrl_c():
        print_block_table(block_table(model, device_names[0], protocol, json, console, adb=adb), console)
