"""One run given twice: independent runs never have the same samples, and a run compared with itself is always the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_runner.errors import RunnerError
from device_runner.results.pairing import title


def check_different_runs(files: Sequence[Path], reports: Sequence[Mapping[str, Any]]) -> None:
    """Raise `RunnerError` if two of the files are one, or hold the same measurement."""
    for index, file in enumerate(files):
        for other_index in range(index + 1, len(files)):
            other = files[other_index]
            if os.path.samefile(file, other):
                raise RunnerError(f"{file} and {other} are the same file: a run compared with itself tells nothing")
            if measurement := _shared(reports[index], reports[other_index]):
                raise RunnerError(
                    f"{file} and {other} hold the same run of {title(measurement)} (of {measurement['date']}): compared "
                    "with itself it tells nothing; give results of different runs"
                )


def _shared(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for measurement in one["measurements"]:
        samples = measurement["samples_ms"]
        if not samples or min(samples) == max(samples):  # a clock too coarse may well give the same twice
            continue
        if any(samples == each["samples_ms"] and measurement["date"] == each["date"] for each in other["measurements"]):
            return measurement
    return None
