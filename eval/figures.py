"""Every figure of the cumulative table: its key in a row, its header, its wording, and its computation from clips.

A new figure is one entry in `FIGURES`, and the file that computes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval.motion import clip_motion, ratio_of_motions

Row = Mapping[str, Any]
# TFLOPs of the largest model below which GFLOPs are the readable unit.
SMALL_TFLOPS = 0.1


def significant(value: float, digits: int = 3) -> str:
    """A number with the given significant digits, never in exponent form; digits before the point are all kept."""
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}") if abs(value) < 10**digits else value  # 9.996 is 10.0, not 10.00
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def with_prefix(value: float) -> str:
    """A count with k, M, G, T or P: 237400 -> "237 k"."""
    for prefix, unit in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= unit * 0.9995:  # so that 999.9 k is written 1.00 M
            return f"{significant(value / unit)} {prefix}"
    return significant(value)


def against_base(ratio: float) -> str:
    """The ratio of the base's FLOPs to this model's, in words: 214.3 -> "214x fewer"."""
    if abs(ratio - 1) < 0.005:
        return "1x"
    return f"{significant(ratio)}x fewer" if ratio > 1 else f"{significant(1 / ratio)}x more"


def mean_of_generated(generated: np.ndarray, reference: np.ndarray) -> float:
    """The mean over the generated clips."""
    return float(np.mean(generated))


@dataclass(frozen=True)
class Figure:
    """A figure of a row, and its column.

    Attributes:
        key: key in rows (`results.json`, `metrics.json`).
        header: header of the column.
        write: function from the value to text.
        clip_value: function from one clip, uint8 (T, H, W, 3), to a number, so that clips need not be kept; None if the
            figure does not come from clips.
        combine: function from these numbers of all generated clips (N,) and all reference clips (M,) to the figure.
        is_optional: there is a column only if some row has the figure.
        is_wide: the column is left out where the terminal is narrow.
    """

    key: str
    header: str
    write: Callable[[Any], str]
    clip_value: Callable[[np.ndarray], float] | None = None
    combine: Callable[[np.ndarray, np.ndarray], float] = mean_of_generated
    is_optional: bool = False
    is_wide: bool = False


FIGURES: list[Figure] = [
    Figure("nfe", "NFE", lambda v: f"{v:,}"),
    Figure("distance", "distance", significant),
    Figure("distance_deviation", "over seeds", significant, is_optional=True, is_wide=True),
    Figure("distance_infinite", "infinite clips", significant, is_optional=True, is_wide=True),
    Figure("kernel_distance", "kernel distance", significant, is_optional=True, is_wide=True),
    Figure("motion_ratio", "motion", lambda v: f"{v:.2f}", clip_motion, ratio_of_motions),
    Figure("parameters", "params", with_prefix),
    Figure("tflops", "TFLOPs", significant),
    Figure("host_ms", "host ms", significant),
    Figure("device_ms", "device ms", significant),
    Figure("flops_per_clip", "FLOPs per clip", with_prefix, is_wide=True),  # its ratio to the base says the same
    Figure("flops_ratio", "against base", against_base),
]


def clip_values(clips: np.ndarray) -> dict[str, np.ndarray]:
    """What each figure needs of clips, uint8 (N, T, H, W, 3): its key -> (N,)."""
    wanted = [(figure.key, figure.clip_value) for figure in FIGURES if figure.clip_value is not None]
    return {key: np.array([value(clip) for clip in clips], dtype=np.float64) for key, value in wanted}


def combine_figures(generated: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The figures of generated against reference clips, by key, from their `clip_values`."""
    wanted = [figure for figure in FIGURES if figure.clip_value is not None]
    return {figure.key: figure.combine(generated[figure.key], reference[figure.key]) for figure in wanted}


def number(row: Row, key: str) -> float | None:
    """A row's figure; None if it is missing or not finite."""
    value = row.get(key)
    return None if value is None or not math.isfinite(value) else value


def distance_names(rows: Sequence[Row]) -> set[str]:
    """Names of the distances in the rows; if there are several, the distances are not comparable."""
    return {row["distance_name"] for row in rows if row.get("distance_name")}


def kernel_name(distance_name: str) -> str:
    """Name of the kernel distance on the features of a Frechet distance: FVD and KVD, FD-motion and KD-motion."""
    return f"K{distance_name[1:]}" if distance_name.startswith("F") else f"kernel {distance_name}"


def columns(rows: Sequence[Row]) -> list[Figure]:
    """The figures as columns of these rows, which decide the unit of FLOPs and the names of the distances."""
    names = distance_names(rows)
    largest = max((number(row, "tflops") or 0.0 for row in rows), default=0.0)
    adapted = {}
    if len(names) == 1:
        name = names.pop()
        adapted["distance"] = {"header": name}
        adapted["kernel_distance"] = {"header": kernel_name(name)}
    if largest < SMALL_TFLOPS:
        adapted["tflops"] = {"header": "GFLOPs", "write": lambda v: significant(v * 1000)}
    shown = [f for f in FIGURES if not f.is_optional or any(number(row, f.key) is not None for row in rows)]
    return [replace(figure, **adapted.get(figure.key, {})) for figure in shown]
