"""`mobilevd compare`: tells whether the second of two results is slower than the first."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from device_runner.results.compare import compare, print_comparison
from device_runner.results.schema import read_report
from mobilevd.commands.console import PipeConsole
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.places import check_output_file, is_json_of_kind


def compare_files(
    before: Path,
    after: Path,
    threshold: str,
    different_devices: bool,
    json: Path | None,
    console: Console | None = None,
) -> bool:
    """Print the comparison; return whether anything became slower than the threshold allows."""
    share = _share(threshold)
    if json is not None:
        check_output_file(json, is_json_of_kind("mobilevd-comparison"), "a comparison", [before, after])
    comparison = compare(
        read_report(before), read_report(after), threshold=share, allow_different_devices=different_devices
    )
    if json is not None:
        atomic_write_json(json, comparison.to_json())
    print_comparison(comparison, console or PipeConsole())
    return comparison.regressed


def _share(text: str) -> float:
    """Return 0.05 for "5%" or "0.05"."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise UserError(f"--threshold takes a share such as 5% or 0.05, not {text!r}")
    return value
