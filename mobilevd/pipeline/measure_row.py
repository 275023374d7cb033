"""What a run knows of a row's programs: exported, proved and measured as the configuration asks, or why they are not."""

from __future__ import annotations

from typing import Any

from device_runner.bundle.manifest import Manifest
from device_runner.bundle.whole_path import UNET
from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.pipeline.data import RunClips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.export_and_measure import HOST, export_entry, measure_entry
from mobilevd.pipeline.export_choices import ExportChoice, export_choices, measured_on_host
from mobilevd.pipeline.latencies import latency_figures, measure_doubtful_again
from mobilevd.pipeline.rows import Entry
from mobilevd.pipeline.shown_clips import write_program_clips

INHERITED = ("host_ms", "host_ms_doubts", "device_ms", "device_ms_doubts", "unavailable")


def measure_row(
    config: RunConfig, entry: Entry, entries: list[Entry], codec: Codec, clips: RunClips, display: Display
) -> dict[str, Any]:
    """Export and measure where the configuration asks for it; return figures, or the reason why there are none."""
    phone = config.bench.device if config.bench.device != HOST else None
    reasons = {} if phone else {"device_ms": "no phone was measured (bench.device is host)"}
    wanted = config.export.stages == "all" or (config.export.stages == "last" and entry is entries[-1])
    if not entry.exported:
        return {"host_ms": None, "device_ms": None, "same_program_as": "base", "unavailable": reasons}
    if not wanted:
        reasons["host_ms"] = f"not exported (export.stages is {config.export.stages})"
        return {"host_ms": None, "device_ms": None, "unavailable": reasons}
    choices = export_choices(config.export)
    on_host = measured_on_host(choices)
    with display.bar("exporting"):
        manifests = export_entry(config, entry, codec, clips)
        if on_host is not None:
            write_program_clips(config, entry, entry.folder / on_host.folder, manifests[on_host.folder], codec, clips)
    figures: dict[str, Any] = {"host_ms": None, "device_ms": None}
    if on_host is not None:
        figures |= latency_figures(_measured(config, entry, display, "measuring"), "host_ms")
    else:
        reasons["host_ms"] = f"no program of this run runs on this host: {choices[0].target.not_executed}"
    if phone:
        bench = _measured(config, entry, display, f"measuring on {phone}", phone)
        if bench["emulated"]:
            reasons["device_ms"] = f"{bench['device']['name']} is emulated: its times are no latencies"
        else:
            figures |= latency_figures(bench, "device_ms")
    program = manifests[choices[0].folder].programs[UNET]
    also = [_also(config, entry, choice, manifests[choice.folder], display) for choice in choices[1:]]
    return {
        **figures,
        "parity": program.parity.to_json(),
        "delegation": program.delegation.to_json(),
        **({"also": also} if also else {}),
        "unavailable": reasons,
    }


def _also(
    config: RunConfig, entry: Entry, choice: ExportChoice, manifest: Manifest, display: Display
) -> dict[str, Any]:
    """What is known of a further program: where it is, its size, parity, delegation, and latency where it runs here."""
    program = manifest.programs[UNET]
    found = {
        "target": choice.target.name,
        "precision": choice.precision,
        "bundle": choice.folder,
        "size_mb": program.size_mb,
        "parity": program.parity.to_json(),
        "delegation": program.delegation.to_json(),
    }
    if choice.target.not_executed is not None:
        return {**found, "host_ms": None, "unavailable": {"host_ms": choice.target.not_executed}}
    bench = _measured(config, entry, display, f"measuring {choice.name}", folder=choice.folder)
    return {**found, **latency_figures(bench, "host_ms")}


def _measured(
    config: RunConfig, entry: Entry, display: Display, what: str, device: str = HOST, folder: str | None = None
) -> dict[str, Any]:
    """`measure_entry` with a bar that tells how far it is."""
    with display.bar(what) as bar:
        bench = measure_entry(config, entry, device, folder=folder, progress=bar.tell)
        bar.tell("")
    return bench


def measure_doubtful_rows(
    config: RunConfig, entries: list[Entry], rows: list[dict[str, Any]], display: Display
) -> None:
    """Measure the rows whose host latency is doubtful again, and tell how many there are."""

    def tell(number: int, count: int) -> None:
        display.line(f"  {count} latencies of this host are doubtful: measured again in turns, round {number + 1}")

    measured = [(entry, row) for entry, row in zip(entries, rows, strict=True) if row["host_ms"] is not None]
    measure_doubtful_again(config, measured, tell)


def inherit_host_ms(rows: list[dict[str, Any]]) -> None:
    """Copy the latencies of the base to the base sampled in one step, which is the same program."""
    for row in rows:
        if row.get("same_program_as") == "base":
            row |= {key: rows[0][key] for key in INHERITED if key in rows[0]}
