"""Reports as one self-contained HTML page: no network, no script, readable in light and dark mode and on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from device_runner.errors import RunnerError
from device_runner.protocol.statistics import PERCENTILE_METHOD, knows_median
from device_runner.results import wording
from device_runner.results.bars import clip_segments, panels
from device_runner.results.overview import causes_of, groups_of
from device_runner.results.plots import Plot, distribution_plot, time_plot
from device_runner.results.profile import profile_panels

TEMPLATE = "page.html.j2"
_Measurement = Mapping[str, Any]
_Rows = list[tuple[str, ...]]


def write_page(reports: Mapping[str, Any] | Sequence[Mapping[str, Any]], path: Path | str) -> None:
    """Write the page of one report, or of several side by side.

    Raises `RunnerError` if the file cannot be written.
    """
    text = render_page([reports] if isinstance(reports, Mapping) else reports)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunnerError(f"{path}: cannot be written: {error.strerror}") from None


def render_page(reports: Sequence[Mapping[str, Any]]) -> str:
    """Render the page. All text from reports is escaped by the template engine or, inside plots, by `svg`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    measurements = [each for report in reports for each in report["measurements"]]
    environment = Environment(
        loader=PackageLoader("device_runner.results", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(wording=wording, percentile_method=PERCENTILE_METHOD)
    return environment.get_template(TEMPLATE).render(
        created=", ".join(dict.fromkeys(moment(report["created"]) for report in reports)),
        measurements=[_section(f"m{index}", each) for index, each in enumerate(measurements)],
        groups=groups_of(measurements),
        causes=causes_of(measurements),
        failures=[failure for report in reports for failure in report["failures"]],
        panels=[panel for panel in panels(measurements) if len(panel.bars) > 1],
        clips=[{**clip, "segments": clip_segments(clip)} for report in reports for clip in report["clips"]],
        devices=_unlike((wording.device_title(each["device"]), device_rows(each["device"])) for each in measurements),
        builds=_unlike(_build(each) for each in measurements),
        protocols=_unlike(
            (wording.protocol_title(each["protocol"]), _setting_rows(each["protocol"])) for each in measurements
        ),
    )


def moment(iso: str) -> str:
    """A time stamp for reading: `2026-03-01 12:00:00 UTC`."""
    return iso.replace("T", " ", 1).replace("+00:00", " UTC").replace("Z", " UTC")


def _unlike(named_rows: Iterable[tuple[str, _Rows]]) -> list[tuple[str, _Rows]]:
    """The entries, each only once."""
    found: list[tuple[str, _Rows]] = []
    for entry in named_rows:
        if entry not in found:
            found.append(entry)
    return found


def _section(anchor: str, measurement: _Measurement) -> dict[str, Any]:
    """The template's data of one measurement."""
    samples = measurement["samples_ms"]
    drawn = len(samples) > 1
    return {
        "anchor": anchor,
        "json": measurement,
        "title": wording.measurement_title(measurement),
        "tiles": _tiles(measurement),
        "distribution": _figure(distribution_plot(samples)) if drawn else None,
        "time": _figure(time_plot(measurement)) if drawn else None,
        "summary": _summary_rows(measurement),
        "states": _state_rows(measurement["state_before"], measurement["state_after"]),
        "date": moment(measurement["date"]),
        "profile": profile_panels(measurement["profile"]) if measurement.get("profile") else [],
    }


def _figure(plot: Plot) -> dict[str, Any]:
    from markupsafe import Markup

    return {**plot._asdict(), "svg": Markup(plot.svg)}


def _tiles(measurement: _Measurement) -> _Rows:
    """The figures in large letters: name, value, unit, and the line below."""
    if measurement["figure"] is None:
        return []
    summary, figure = measurement["summary"], measurement["figure"]
    low, high = summary.get("median_ci_low"), summary.get("median_ci_high")
    below = f"{summary['n']} runs"
    if not knows_median(summary):
        below = f"{summary['n']} runs, worth {summary['effective_n']:.0f} independent ones: no interval"
    elif figure["name"] == "p50" and low is not None:
        below = f"95 %: {wording.milliseconds(low)} to {wording.milliseconds(high)}"
    tiles = [(figure["name"], wording.milliseconds(figure["ms"]), "ms", below)]
    for name in ("p50", "p90", "p99"):
        if name in summary and name != figure["name"]:
            tiles.append((name, wording.milliseconds(summary[name]), "ms", ""))
    if "cv" in summary:
        tiles.append(("variation", f"{100 * summary['cv']:.1f}", "%", "std / mean"))
    loads = len(measurement["loads_ms"])
    if measurement["load_ms"] is not None:
        below = f"median of {loads}" if loads > 1 else ""
        tiles.append(("load", wording.milliseconds(measurement["load_ms"]), "ms", below))
    if (peak := measurement["memory"].get("peak_rss_bytes")) is not None:
        tiles.append(("peak memory", wording.mebibytes(peak), "MiB", ""))
    return tiles


_SUMMARY_NAMES = {
    "mean": "mean",
    "trimmed_mean": "mean without 10 % at each end",
    "std": "standard deviation",
    "first": "very first run",
    "min": "least",
    "p5": "p5",
    "p50": "p50",
    "p90": "p90",
    "p95": "p95",
    "p99": "p99",
    "max": "greatest",
}


def _summary_rows(measurement: _Measurement) -> _Rows:
    """Rows for the times, if there are any, and for the closeness of the outputs."""
    rows = _time_rows(measurement, measurement["summary"]) if measurement["summary"] is not None else []
    for output in measurement["outputs"]:
        psnr = "equal" if output["psnr_db"] is None else f"{output['psnr_db']:.1f} dB"
        rows.append((f"output {output['name']}", f"{psnr} (at least {output['min_psnr_db']:g} dB)"))
    return rows


def _time_rows(measurement: _Measurement, summary: Mapping[str, float]) -> _Rows:
    known = [(name, told) for name, told in _SUMMARY_NAMES.items() if name in summary]
    rows: _Rows = [(told, f"{wording.milliseconds(summary[name])} ms") for name, told in known]
    if "median_ci_low" in summary:
        low, high = wording.milliseconds(summary["median_ci_low"]), wording.milliseconds(summary["median_ci_high"])
        interval = f"{low} to {high} ms" if knows_median(summary) else "none: too few independent runs"
        rows.append(("median, 95 % interval", interval))
    if "effective_n" in summary:
        rows.append(("worth independent runs", f"{summary['effective_n']:.0f} of {summary['n']}"))
    if "drift" in summary:
        rows.append(("last half / first half", f"{summary['drift']:.3f}"))
    rows.append(("timed runs", f"{summary['n']}, ended by {measurement['stop'].replace('_', ' ')}"))
    if measurement.get("sustained"):
        rows.append(("sustained", wording.sustained_title(measurement["sustained"])))
    return rows


_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


def _state_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> _Rows:
    """Rows of name, before and after; without those that the device reports nothing about."""
    told = {
        "battery": lambda state: _optional(state.get("battery_c"), wording.celsius),
        "charge": lambda state: _optional(state.get("battery_percent"), lambda value: f"{value:.0f} %"),
        "charging": lambda state: {None: "", True: "yes", False: "no"}[state.get("charging")],
        "thermal status": lambda state: _optional(state.get("thermal_status"), _thermal),
        "hottest sensor": _hottest,
        "governors": lambda state: ", ".join(_counted(state.get("governors") or [])),
        "clocks, GHz": lambda state: _gigahertz(state.get("frequencies_khz") or []),
        "limits, GHz": lambda state: _gigahertz(state.get("max_frequencies_khz") or []),
        "load": lambda state: " ".join(f"{value:.2f}" for value in state.get("load_average") or []),
        "free memory": lambda state: _optional(
            state.get("memory_available_bytes"), lambda value: f"{wording.mebibytes(value)} MiB"
        ),
    }
    rows = [(name, tell(before), tell(after)) for name, tell in told.items()]
    return [(name, one or wording.NOTHING, other or wording.NOTHING) for name, one, other in rows if one or other]


def _optional(value: Any, tell: Any) -> str:
    return "" if value is None else tell(value)


def _thermal(status: int) -> str:
    return f"{status} ({_THERMAL[status]})" if status < len(_THERMAL) else str(status)


def _hottest(state: Mapping[str, Any]) -> str:
    sensors = state.get("temperatures_c") or {}
    if not sensors:
        return ""
    name = max(sensors, key=sensors.__getitem__)
    return f"{wording.celsius(sensors[name])} ({name})"


def _gigahertz(frequencies_khz: Sequence[float | None]) -> str:
    return ", ".join(_counted([None if khz is None else f"{khz / 1e6:.2f}" for khz in frequencies_khz]))


def _counted(values: Sequence[str | None]) -> list[str]:
    """Values with their counts, such as `4 x 1.70`: cores of one kind report the same."""
    known = [value for value in values if value is not None]
    counts = {value: known.count(value) for value in known}
    return [value if count == 1 else f"{count} × {value}" for value, count in counts.items()]


def device_rows(device: Mapping[str, Any]) -> _Rows:
    """Rows for a table with the facts about a device."""
    platform = device["platform"]
    facts = [(key.replace("_", " "), value) for key, value in device.items() if key not in ("name", "kind", "platform")]
    rows = [
        (name.removesuffix(" bytes"), _fact(name, value)) for name, value in facts if value not in (None, "", [], {})
    ]
    rows.append(("platform", f"{platform['system']} {platform['abi']}"))
    return [*rows, ("emulated", platform["emulated"])] if platform["emulated"] else rows


def _fact(name: str, value: Any) -> str:
    if name.endswith(" bytes") and isinstance(value, int):
        return f"{wording.mebibytes(value)} MiB"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _build(measurement: _Measurement) -> tuple[str, _Rows]:
    bundle, runner = measurement["bundle"], measurement["runner"]
    rows: _Rows = [("target", bundle["target"]), ("precision", bundle["precision"]), ("manifest", bundle["sha256"])]
    told = (("runner built for", runner.get("form")), ("ran on cores", runner.get("affinity")))
    rows += [(name, value) for name, value in told if value]
    named = {**bundle.get("tools", {}), **runner["versions"], **measurement["versions"]}
    rows += [(name, str(version)) for name, version in named.items()]
    return f"{bundle['name']}, {bundle['precision']}, runner {runner['name']}", rows


def _setting_rows(protocol: Mapping[str, Any]) -> _Rows:
    return [(name.replace("_", " "), "none" if value is None else str(value)) for name, value in protocol.items()]
