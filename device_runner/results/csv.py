"""Results as comma-separated values: one row per measurement, or one row per timed run."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from device_runner.errors import RunnerError
from device_runner.results.wording import one_line

FORMULA_SIGNS = ("=", "+", "-", "@")
_SUMMARY = ("mean", "std", "trimmed_mean", "min", "p5", "p50", "p90", "p95", "p99", "max", "first")
COLUMNS = (
    *("bundle", "bundle_sha256", "target", "precision", "program", "method"),
    *("device", "model", "soc", "system", "abi", "emulated", "runner", "protocol", "threads", "cpu_mask", "date"),
    *("figure", "figure_ms", "samples", *(f"{name}_ms" for name in _SUMMARY)),
    *("median_ci_low_ms", "median_ci_high_ms", "cv", "drift", "stop", "load_ms", "peak_rss_bytes"),
    *("first_minute_ms", "last_minute_ms", "throttled_after_s", "min_output_psnr_db"),
    *("battery_before_c", "battery_after_c", "thermal_status_before", "thermal_status_after", "warnings"),
)
SAMPLE_COLUMNS = ("bundle", "program", "device", "index", "start_s", "ms")


def write_csv(report: Mapping[str, Any], path: Path | str) -> None:
    """Write one row per measurement, with units in the column names; unknown values are empty."""
    _write(path, COLUMNS, (_row(measurement) for measurement in report["measurements"]))


def write_samples_csv(report: Mapping[str, Any], path: Path | str) -> None:
    """Write one row per timed run; `start_s` counts from the start of the first run. Emulated runs have no rows."""
    _write(path, SAMPLE_COLUMNS, (row for measurement in report["measurements"] for row in _sample_rows(measurement)))


def _row(measurement: Mapping[str, Any]) -> dict[str, Any]:
    bundle, device, protocol = measurement["bundle"], measurement["device"], measurement["protocol"]
    summary, figure = measurement["summary"] or {}, measurement["figure"] or {}
    sustained, before, after = (
        measurement.get("sustained") or {},
        measurement["state_before"],
        measurement["state_after"],
    )
    psnrs = [output["psnr_db"] for output in measurement["outputs"] if output["psnr_db"] is not None]
    return {
        "bundle": bundle["name"],
        "bundle_sha256": bundle["sha256"],
        "target": bundle["target"],
        "precision": bundle["precision"],
        "program": measurement["program"],
        "method": measurement["method"],
        "device": device["name"],
        "model": device.get("model"),
        "soc": device.get("soc"),
        "system": device.get("system") or device["platform"]["system"],
        "abi": device["platform"]["abi"],
        "emulated": str(measurement["emulated"]).lower(),
        "runner": measurement["runner"]["name"],
        "protocol": protocol["name"],
        "threads": protocol.get("threads"),
        "cpu_mask": protocol.get("cpu_mask"),
        "date": measurement["date"],
        "figure": figure.get("name"),
        "figure_ms": figure.get("ms"),
        "samples": summary.get("n"),
        **{f"{name}_ms": summary.get(name) for name in (*_SUMMARY, "median_ci_low", "median_ci_high")},
        "cv": summary.get("cv"),
        "drift": summary.get("drift"),
        "stop": measurement["stop"],
        "load_ms": measurement["load_ms"],
        "peak_rss_bytes": measurement["memory"].get("peak_rss_bytes"),
        "first_minute_ms": sustained.get("first_minute_ms"),
        "last_minute_ms": sustained.get("last_minute_ms"),
        "throttled_after_s": sustained.get("throttled_after_s"),
        "min_output_psnr_db": min(psnrs, default=None),
        "battery_before_c": before.get("battery_c"),
        "battery_after_c": after.get("battery_c"),
        "thermal_status_before": before.get("thermal_status"),
        "thermal_status_after": after.get("thermal_status"),
        "warnings": "; ".join(measurement["warnings"]),
    }


def _sample_rows(measurement: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    starts = measurement["starts_s"] or [None] * len(measurement["samples_ms"])
    for index, (start_s, ms) in enumerate(zip(starts, measurement["samples_ms"], strict=True)):
        yield {
            "bundle": measurement["bundle"]["name"],
            "program": measurement["program"],
            "device": measurement["device"]["name"],
            "index": index,
            "start_s": start_s,
            "ms": ms,
        }


def _write(path: Path | str, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(columns), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({key: _safe(value) for key, value in row.items()})
    except OSError as error:
        raise RunnerError(f"{path}: cannot be written: {error.strerror}") from None


def _safe(value: Any) -> Any:
    """Text in one line, quoted if it begins like a formula, which spreadsheets run; bundles and devices may have any name.

    Spreadsheets also take a full-width sign for the plain one.
    """
    if not isinstance(value, str):
        return value
    plain = one_line(value)
    return "'" + plain if unicodedata.normalize("NFKC", plain).startswith(FORMULA_SIGNS) else plain
