"""One measurement: runs a program of a bundle on a device under a protocol, and accepts only checked results."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from device_runner.bundle.gates import GATES_DB, MARGIN_DB
from device_runner.bundle.read import Bundle, BundleProgram, read_bundle
from device_runner.bundle.unchanged import check_unchanged
from device_runner.bundle.whole_path import UNET
from device_runner.devices.base import Device
from device_runner.devices.job import Platform, Progress, RawJob
from device_runner.devices.kinds import open_device
from device_runner.errors import RunnerError
from device_runner.measure.cooling import wait_until_cool
from device_runner.measure.make_job import make_job
from device_runner.measure.outputs import check_outputs
from device_runner.measure.warnings import sustained_of, warnings_of
from device_runner.protocol.protocol import Protocol, named_protocol
from device_runner.protocol.statistics import PERCENTILE_METHOD, summarize
from device_runner.runners.base import Readings, Runner, form_of
from device_runner.runners.choose import choose_runner

SCHEMA_VERSION = 2
SUSTAINED_S = 120  # in less time, the first and the last minute overlap
AVERAGE = "mean"
"""Name of the figure if a runner gives averages only."""
COLD_LOADS_NOTE = (
    "load times are of fresh processes, but of a file that is still in the system's page cache; the first load after the "
    "device started takes longer"
)


def no_progress(text: str, share: float | None) -> None:
    """Do nothing, for callers that show no progress."""


@dataclass(frozen=True)
class Measurement:
    """An accepted measurement: it is complete, and its outputs equal the bundle's references within tolerance.

    Times are in milliseconds, in the order they were taken. For an emulated processor no times are kept, since they say
    nothing about any device.
    """

    bundle: dict[str, Any]
    """`name`, `sha256` (of the manifest), `target`, `precision`, `tools`."""
    program: str
    method: str
    device: dict[str, Any]
    """`name`, `kind`, `platform`, and what `Device.describe` says."""
    runner: dict[str, Any]
    """`name`, `versions`, `form` (`host`, `ndk`, `glibc`; null for a runner with a single form), and `affinity`: the
    hexadecimal mask of the cores that the timed process could run on, null if the runner does not report it."""
    protocol: dict[str, Any]
    date: str
    """Time of the run's start in UTC, ISO 8601."""
    emulated: bool
    samples_ms: list[float]
    """Every timed run; empty for a runner that gives averages only."""
    starts_s: list[float]
    """Start of each timed run, in seconds since the start of the first."""
    cpu_ms: list[float]
    """Processor time of all threads together, per timed run."""
    warmup_ms: list[float]
    average_ms: float | None
    first_start_uptime_s: float | None
    summary: dict[str, float] | None
    """Summary of `samples_ms`, see `statistics.summarize`; and `first`, the very first run."""
    figure: dict[str, Any] | None
    """`name` and `ms` of the figure that represents the measurement in tables."""
    loads_ms: list[dict[str, float]]
    """`total`, `program` (opening the file), `method` (preparing delegates and weights) of each process."""
    load_ms: float | None
    """Median of the totals in `loads_ms`."""
    sustained: dict[str, float | None] | None
    """First minute against last, for protocols of two minutes or more; see `warnings.sustained_of`."""
    stop: str
    memory: dict[str, int]
    """`peak_rss_bytes`, `minor_faults`, `major_faults` of the process; `program_bytes` of the file;
    `involuntary_switches`, the times that the timed runs lost a core to others; each where known."""
    outputs: list[dict[str, Any]]
    """Per output `name`, `psnr_db` (null: equal in every value), `min_psnr_db`, `max_abs_error`."""
    state_before: dict[str, Any]
    state_after: dict[str, Any]
    series: list[dict[str, Any]]
    transfer: dict[str, Any]
    warnings: list[str]
    """Reasons why the figures may mislead: throttled, noisy, busy."""
    notes: list[str]
    versions: dict[str, str]
    profile: dict[str, Any] | None = None
    """Time by block and operator, from a run of its own; None if it was not requested."""

    @property
    def median_ms(self) -> float:
        """The figure for tables: the median, or the average if the runner gives nothing else.

        Raises `RunnerError` for an emulated processor, which has no latency.
        """
        if self.summary is None:
            raise RunnerError(f"{self.device['name']}: emulated ({self.device['platform']['emulated']}): no latency")
        return self.summary.get("p50", self.summary["mean"])

    def to_json(self) -> dict[str, Any]:
        """The whole measurement, ready for `json.dump` (no NaN, no infinity)."""
        return {"schema_version": SCHEMA_VERSION, "percentiles": PERCENTILE_METHOD, **asdict(self)}


def measure(
    bundle_path: Path | str,
    device: str | Device = "host",
    protocol: str | Protocol = "default",
    program: str = UNET,
    *,
    runner: str | Runner | None = None,
    method: str | None = None,
    progress: Progress = no_progress,
) -> Measurement:
    """Measure one program of a bundle; `device`, `protocol` and `runner` are names or ready objects.

    Args:
        runner: None takes the one for the bundle's target and the device.
        method: method of the program; None takes the manifest's.

    Raises `RunnerError` naming the condition that failed: unknown device, protocol or program; a bundle that is
    not intact; no compiler; a run that failed, was cut off or counted wrongly; outputs that differ from the
    references.
    """
    if isinstance(protocol, str):
        protocol = named_protocol(protocol)
    if isinstance(device, str):
        device = open_device(device)
    bundle = read_bundle(bundle_path)
    chosen = bundle.program(program)
    if method is not None:
        chosen = replace(chosen, method=method)
    return measure_program(bundle, chosen, device, protocol, runner, progress=progress)


def measure_program(
    bundle: Bundle,
    program: BundleProgram,
    device: Device,
    protocol: Protocol,
    runner: str | Runner | None = None,
    *,
    progress: Progress = no_progress,
    sleep: Callable[[float], None] = time.sleep,
) -> Measurement:
    """Measure a program of a bundle that was read, on a device that is open; otherwise like `measure`.

    Args:
        sleep: function that waits the given number of seconds while a device cools.
    """
    platform = device.platform()
    if runner is None or isinstance(runner, str):
        runner = choose_runner(bundle, device, runner)
    job = make_job(bundle, program, protocol, runner)
    # Read before the run: a link that drops right after the run must not cost the result.
    facts, versions = device.describe(), {**device.versions(), **runner.versions()}
    notes = [COLD_LOADS_NOTE] if protocol.cold_loads else []

    def ready() -> None:
        note = wait_until_cool(device.state, protocol, progress, sleep=sleep)
        notes.extend([note] if note else [])

    try:
        with tempfile.TemporaryDirectory(prefix="mobilevd-outputs-") as folder:
            raw = device.run(job, Path(folder), ready, progress)
            try:
                readings = runner.read(raw.steps, program, protocol)
                outputs = check_outputs(device.name, readings.outputs, program, Path(folder))
            except (RunnerError, OSError):
                check_unchanged(bundle, program)  # a changed bundle is then the reason
                raise
            check_unchanged(bundle, program)
    except OSError as error:
        raise RunnerError(f"{error.filename or 'outputs'}: cannot be written or read: {error.strerror}") from None
    return _measurement(
        raw,
        readings,
        platform,
        protocol,
        bundle={
            "name": bundle.name,
            "sha256": bundle.sha256,
            "target": bundle.target,
            "precision": bundle.precision,
            "tools": bundle.manifest.tools,
        },
        program=program.name,
        method=program.method,
        device={
            "name": device.name,
            "kind": device.name.partition(":")[0],
            "platform": asdict(platform),
            **facts,
        },
        runner={
            "name": runner.name,
            "versions": runner.versions(),
            "form": form_of(runner),
            "affinity": readings.affinity,
        },
        outputs=[output.to_json() for output in outputs],
        notes=[*readings.notes, *notes, *([device.warning] if device.warning else [])],
        versions=versions,
    )


def _measurement(
    raw: RawJob, readings: Readings, platform: Platform, protocol: Protocol, **identity: Any
) -> Measurement:
    real = platform.emulated is None
    samples = readings.samples_ms if real else []
    summary = _summary(readings) if real else None
    sustained = sustained_of(samples, readings.starts_s) if samples and protocol.min_seconds >= SUSTAINED_S else None
    cores = identity["device"].get("usable_cores") or identity["device"].get("logical_cores")
    states = (raw.state_before, raw.state_after, raw.series)
    warnings = (
        warnings_of(samples, readings.starts_s, *states, protocol, summary, cores=cores, cpu_ms=readings.cpu_ms)
        if real
        else []
    )
    warnings += _lenient(identity["bundle"]["precision"], identity["outputs"])
    return Measurement(
        protocol=protocol.to_json(),
        date=raw.started,
        emulated=not real,
        samples_ms=samples,
        starts_s=readings.starts_s if real else [],
        cpu_ms=readings.cpu_ms if real else [],
        warmup_ms=readings.warmup_ms if real else [],
        average_ms=readings.average_ms if real else None,
        first_start_uptime_s=readings.first_start_uptime_s,
        summary=summary,
        figure=_figure(summary, protocol) if summary else None,
        loads_ms=readings.loads if real else [],
        load_ms=statistics.median(load["total"] for load in readings.loads) if real and readings.loads else None,
        sustained=sustained,
        stop=readings.stop,
        memory=readings.memory,
        state_before=raw.state_before,
        state_after=raw.state_after,
        series=raw.series,
        transfer=raw.transfer,
        warnings=warnings,
        **identity,
    )


def _summary(readings: Readings) -> dict[str, float]:
    if not readings.samples_ms:
        if readings.average_ms is None:
            raise RunnerError("the runner told neither samples nor an average")
        return {"n": readings.iterations, "mean": readings.average_ms}
    first = (readings.warmup_ms or readings.samples_ms)[0]
    return {**summarize(readings.samples_ms), "first": first}


def _figure(summary: dict[str, float], protocol: Protocol) -> dict[str, Any]:
    name = protocol.figure if protocol.figure in summary else AVERAGE
    return {"name": name, "ms": summary[name]}


def _lenient(precision: str, outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning for each output that may be farther from its reference than the precision allows."""
    gate = GATES_DB.get(precision, 0.0)
    return [
        f"lenient: of {output['name']} the bundle asks {output['min_psnr_db']:g} dB; {precision} must reach {gate:g}"
        for output in outputs
        if output["min_psnr_db"] < gate - MARGIN_DB
    ]
