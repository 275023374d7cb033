"""A training in one line: for the log file of a cluster, and beside the bar of a terminal."""

from __future__ import annotations

import math

from training.observe.report import Report

GROUPED = "/"
"""In the names of figures that are one of several of a kind; a line has no room for them, the log file has them all."""


def describe_report(report: Report, width: int | None = None) -> str:
    """One line without the step: losses first, then rates, memory and the time that is left.

    "loss 0.412, 12.3 clips/s, MFU 41 %, 23.1 GB, 3 h 20 min left"; figures from the end of their list give way to `width`.
    """
    rates = [f"{_number(report.clips_per_s)} clips/s"]
    if report.mfu is not None:
        rates.append(f"MFU {report.mfu:.0%}".replace("%", " %"))
    elif report.tflops is not None:
        rates.append(f"{_number(report.tflops)} TFLOP/s")
    rates += [_memory(report.memory_mb), f"{describe_time(report.seconds_left)} left"]
    figures = [
        f"{name} {_number(value)}"
        for name, value in report.figures.items()
        if GROUPED not in name and name != "learning_rate"
    ]
    while width is not None and figures and len(", ".join([*figures, *rates])) > width:
        figures.pop()
    return ", ".join([*figures, *rates])


def describe_validation(step: int, figures: dict[str, float]) -> str:
    """A validation in one line: "validation after step 500: distance 41.2 (38.0 to 45.1), motion ratio 0.93"."""
    parts = []
    for name, value in figures.items():
        if name.endswith(("_low", "_high")):
            continue
        low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
        interval = "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"
        parts.append(f"{name.replace('_', ' ')} {_number(value)}{interval}")
    return f"validation after step {step}: {', '.join(parts)}"


def describe_time(seconds: float) -> str:
    """A length of time in its two largest units: "45 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if not math.isfinite(seconds):
        return "unknown time"
    minutes, hours, days = round(seconds / 60), int(seconds // 3600), int(seconds // 86400)
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def _memory(megabytes: float) -> str:
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def _number(value: float) -> str:
    """About three significant digits, short: 0.412, 12.3, 1530, 3.1e-05."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3 or size >= 1e6:
        return f"{value:.1e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"
