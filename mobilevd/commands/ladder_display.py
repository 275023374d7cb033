"""The ladder of precisions as a table and as a plot: size, parity, distance and latency of one model's programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mobilevd.files import atomic_file


def print_ladder(result: Mapping[str, Any], console: Console) -> None:
    """Print a row per program; figures that were not measured are left empty.

    "in half" is the PSNR in true half precision, of programs that compute in it: what a phone may compute.
    """
    rows = result["rows"]
    table = Table(title=f"{result['run']}, {result['stage']}: the ladder of precisions")
    for column in ("program", "MB", "PSNR dB", "in half dB", rows[0]["distance_name"], "motion", "host ms"):
        table.add_column(column, justify="left" if column == "program" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            _figure(row.get("size_mb"), 2),
            _figure(row.get("psnr_db"), 1),
            _figure(row.get("half_psnr_db"), 1),
            _figure(row["distance"], 2),
            _figure(row["motion_ratio"], 2),
            _figure(row.get("host_ms"), 1),
        )
    console.print(table)


def write_ladder_plot(path: Path, result: Mapping[str, Any]) -> None:
    """Write a PNG of three panels over the size in megabytes: PSNR, distance, host latency."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in result["rows"] if row.get("size_mb") is not None]
    exact = next((row for row in result["rows"] if row.get("size_mb") is None), None)
    panels = (("psnr_db", "PSNR against fp32, dB"), ("distance", rows[0]["distance_name"]), ("host_ms", "host, ms"))
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.4), constrained_layout=True)
    colors = pyplot.get_cmap("tab10")
    for axis, (key, label) in zip(axes, panels, strict=True):
        for number, row in enumerate(rows):
            if row.get(key) is not None:
                name = row["name"].removeprefix("executorch-")
                axis.plot(row["size_mb"], row[key], "o", markersize=8, color=colors(number), label=name)
        if key == "distance" and exact is not None:
            axis.axhline(exact["distance"], color="0.6", linewidth=1, linestyle="--")
            place = (0.99, exact["distance"])
            coordinates = ("axes fraction", "data")
            axis.annotate(exact["name"], place, xycoords=coordinates, ha="right", va="bottom", color="0.4")
        axis.set_xlabel("program, MB")
        axis.set_ylabel(label)
        axis.set_xlim(left=0)
        axis.set_ylim(0, 1.12 * axis.get_ylim()[1])  # space for markers and the note at the top
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
