"""`mobilevd compare`: tells whether one result, or several runs, are slower than others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from device_runner.results.compare import Comparison, compare
from device_runner.results.comparison_table import print_comparison
from device_runner.results.same_run import check_different_runs
from device_runner.results.schema import read_report
from mobilevd.commands.console import PipeConsole
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.places import check_output_file, is_json_of_kind

SLOWER, TOO_FEW = 1, 3
"""Exit codes; 2 is a mistake in the command, and 0 anything else that was found."""


def compare_files(
    baseline: Sequence[Path],
    candidate: Sequence[Path],
    threshold: str,
    different_devices: bool,
    json: Path | None,
    console: Console | None = None,
) -> int:
    """Print the comparison; return the exit code: `SLOWER` if anything is, else `TOO_FEW` if anything cannot be told, or 0.

    Raises `RunnerError` or `UserError` for files that are no results, that hold one run twice, or may not be compared.
    """
    if not baseline or not candidate:
        raise UserError("compare takes two results, A.json B.json, or --baseline A... and --candidate B...")
    share = _share(threshold)
    files = [*baseline, *candidate]
    if json is not None:
        check_output_file(json, is_json_of_kind("mobilevd-comparison"), "a comparison", files)
    reports = [read_report(file) for file in files]
    check_different_runs(files, reports)
    comparison = compare(
        reports[: len(baseline)],
        reports[len(baseline) :],
        threshold=share,
        allow_different_devices=different_devices,
    )
    if json is not None:
        atomic_write_json(json, comparison.to_json())
    print_comparison(comparison, console or PipeConsole())
    return _exit_code(comparison)


def _exit_code(comparison: Comparison) -> int:
    if comparison.regressed:
        return SLOWER
    return TOO_FEW if comparison.inconclusive else 0


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
