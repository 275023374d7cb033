"""One measurement: read the bundle, run it on a device under a protocol, accept the result only if all
holds."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from device_runner.bundle import read_bundle
from device_runner.devices import Device, open_device
from device_runner.errors import RunnerError
from device_runner.events import Events, read_events
from device_runner.protocol import Protocol, named_protocol
from device_runner.statistics import PERCENTILE_METHOD, summarize
from device_runner.verify import check_outputs

SCHEMA_VERSION = 1
RUNNABLE_TARGET = "executorch-xnnpack"
"""What the runner is built with."""


@dataclass(frozen=True)
class Measurement:
    """A measurement that counts: complete, and its outputs are the bundle's references within tolerance.

    Times are in milliseconds, in the order they were taken.
    """

    bundle: dict[str, Any]
    """`name`, `sha256` (of the manifest), `target`, `precision`, `tools`."""
    program: str
    method: str
    device: dict[str, Any]
    """`name`, and what `Device.describe` says."""
    protocol: dict[str, Any]
    date: str
    """UTC, ISO 8601, when the run started."""
    samples_ms: list[float]
    cpu_ms: list[float]
    """Processor time of all threads together, per timed run."""
    warmup_ms: list[float]
    summary: dict[str, float]
    """Of `samples_ms`, see `statistics.summarize`."""
    load_ms: dict[str, float]
    """`total`, `program` (opening the file), `method` (preparing delegates and weights)."""
    memory: dict[str, int]
    """`peak_rss_bytes`, `minor_faults`, `major_faults` of the process; `program_bytes` of the file."""
    outputs: list[dict[str, Any]]
    """Per output `name`, `psnr_db` (null: equal in every value), `min_psnr_db`, `max_abs_error`."""
    state_before: dict[str, Any]
    state_after: dict[str, Any]
    versions: dict[str, str]

    @property
    def median_ms(self) -> float:
        """The figure for tables."""
        return self.summary["p50"]

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for `json.dump` (no NaN, no infinity)."""
        return {"schema_version": SCHEMA_VERSION, "percentiles": PERCENTILE_METHOD, **asdict(self)}


def measure(
    bundle_path: Path | str,
    device: str | Device = "host",
    protocol: str | Protocol = "default",
    program: str = "unet",
) -> Measurement:
    """Measure one program of a bundle; `device` and `protocol` are names or ready objects.

    Raises `RunnerError` saying which condition failed: unknown device, protocol or program; a bundle that is
    not intact; no compiler; a run that failed, was cut off or counted wrongly; outputs that are not the
    references.
    """
    if isinstance(protocol, str):
        protocol = named_protocol(protocol)
    if isinstance(device, str):
        device = open_device(device)
    bundle = read_bundle(bundle_path)
    chosen = bundle.program(program)
    if bundle.target != RUNNABLE_TARGET:
        raise RunnerError(
            f"{bundle.folder}: a bundle for {bundle.target} cannot be measured on {device.name}: the runner runs "
            f"programs for {RUNNABLE_TARGET}"
        )
    versions = device.versions()  # builds the runner if need be, before the state is looked at
    facts = device.describe()
    before = device.state()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with tempfile.TemporaryDirectory(prefix="mobilevd-outputs-") as folder:
            run = device.run(bundle, chosen, protocol, Path(folder))
            after = device.state()
            events = read_events(run, protocol, len(chosen.outputs))
            outputs = check_outputs(run, events, chosen)
    except OSError as error:
        raise RunnerError(f"{error.filename or 'outputs'}: cannot be written or read: {error.strerror}") from None
    samples_ms = _ms(events.iterations, "ns")
    return Measurement(
        bundle={
            "name": bundle.name,
            "sha256": bundle.sha256,
            "target": bundle.target,
            "precision": bundle.precision,
            "tools": bundle.tools,
        },
        program=chosen.name,
        method=chosen.method,
        device={"name": device.name, **facts},
        protocol=protocol.to_json(),
        date=date,
        samples_ms=samples_ms,
        cpu_ms=_ms(events.iterations, "cpu_ns"),
        warmup_ms=_ms(events.warmup, "ns"),
        summary=summarize(samples_ms),
        load_ms=_load_ms(events.load),
        memory=_memory(events),
        outputs=[output.to_json() for output in outputs],
        state_before=before,
        state_after=after,
        versions=versions,
    )


def _ms(events: list[dict[str, Any]], key: str) -> list[float]:
    return [event[key] / 1e6 for event in events]


def _load_ms(load: dict[str, Any]) -> dict[str, float]:
    return {"total": load["ns"] / 1e6, "program": load["program_ns"] / 1e6, "method": load["method_ns"] / 1e6}


def _memory(events: Events) -> dict[str, int]:
    return {
        "peak_rss_bytes": events.done["peak_rss_kb"] * 1024,
        "minor_faults": events.done["minor_faults"],
        "major_faults": events.done["major_faults"],
        "program_bytes": events.load["program_bytes"],
    }
