"""Frechet distances side by side: ours and those of published FVD code, on sets with a known answer, and their times.

    OMP_NUM_THREADS=1 python benchmarks/frechet.py [--rounds 5] [--large-rounds 1]

Accuracy: pairs of sets whose distance is known in closed form and which float32 holds exactly (512 features, with full
and with singular covariances), and small sets that do not commute against 50 digits. Each way is held against the answer
for its own covariance, over n or over n - 1. Time: 2048 clips against 2048, at I3D's 400 and VideoMAE's 1408 features,
interleaved, medians. Published code calls `scipy.linalg.sqrtm(disp=False)`; scipy 1.16 and 1.17 warn of it and 1.18 is
to have no `disp`, so here it is called without, which gives the same root. Figures go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.distances.known_sets import known_pairs  # noqa: E402
from benchmarks.distances.published_ways import WAYS  # noqa: E402
from benchmarks.latency.machine import describe  # noqa: E402

DIGITS = 50
CLIPS = 2048


def precise_distance(x: np.ndarray, y: np.ndarray, ddof: int) -> float:
    """The formula with eigenvalues of `S_x^(1/2) S_y S_x^(1/2)` in 50 digits."""
    with mpmath.workdps(DIGITS):
        moments = []
        for value in (x, y):
            matrix = mpmath.matrix(value.tolist())
            n = matrix.rows
            mean = [mpmath.fsum(matrix[i, j] for i in range(n)) / n for j in range(matrix.cols)]
            for i in range(n):
                for j in range(matrix.cols):
                    matrix[i, j] -= mean[j]
            moments.append((mean, matrix.T * matrix / (n - ddof)))
        (mean_x, cov_x), (mean_y, cov_y) = moments
        values, vectors = mpmath.eigsy(cov_x)
        root = vectors * mpmath.diag([mpmath.sqrt(max(v, 0)) for v in values]) * vectors.T
        middle = mpmath.fsum(mpmath.sqrt(max(v, 0)) for v in mpmath.eigsy(root * cov_y * root)[0])
        trace = mpmath.fsum(cov_x[i, i] + cov_y[i, i] for i in range(cov_x.rows))
        return float(mpmath.fsum((a - b) ** 2 for a, b in zip(mean_x, mean_y, strict=True)) + trace - 2 * middle)


def row(case: str, way: str, value: float, known: float) -> dict[str, Any]:
    """One way's value beside the known one; relative to it where it is not 0."""
    error = abs(value - known)
    found = {"case": case, "way": way, "value": value, "known": known, "error": error}
    if known:
        found["relative_error"] = error / known
    shown = f"{error / known:9.1e} relative" if known else f"{error:9.1e} absolute"
    print(f"{case:40} {way:50} {value:14.6g} {known:14.6g} {shown}", flush=True)
    return found


def accuracy() -> list[dict[str, Any]]:
    rows = []
    for pair in known_pairs():
        x, y = pair.sets()
        rows += [
            {**row(pair.name, way.name, way.compute(x, y), pair.distance(way.ddof)), "trace": pair.trace()}
            for way in WAYS
        ]
    rng = np.random.default_rng(1)
    for n, d in ((40, 12), (9, 12)):
        x = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d))).astype(np.float32)
        y = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 0.3).astype(np.float32)
        known = {ddof: precise_distance(x, y, ddof) for ddof in (0, 1)}
        rows += [row(f"{n} samples of {d}, 50 digits", w.name, w.compute(x, y), known[w.ddof]) for w in WAYS]
    return rows


def times(dim: int, rounds: int) -> list[dict[str, Any]]:
    """Median seconds of each way on random correlated features; the first round warms up where there are more."""
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    x, y = ((rng.normal(size=(CLIPS, dim)) @ mix + shift).astype(np.float32) for shift in (0.0, 0.1))
    samples: dict[str, list[float]] = {way.name: [] for way in WAYS}
    for number in range(rounds + (rounds > 1)):
        for way in WAYS:
            started = time.perf_counter()
            way.compute(x, y)
            if number or rounds == 1:
                samples[way.name].append(time.perf_counter() - started)
    ours = statistics.median(samples[WAYS[0].name])
    rows = []
    for name, taken in samples.items():
        median = statistics.median(taken)
        rows.append({"features": dim, "way": name, "median_s": median, "over_ours": median / ours, "samples_s": taken})
        print(f"{dim:5} features  {name:50} {median:7.3f} s  {median / ours:6.2f} of ours", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-rounds", type=int, default=1)
    arguments = parser.parse_args()
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "torch", "torchmetrics")},
        "scipy_sqrtm": "called without disp, which scipy 1.16 deprecates and 1.18 removes",
        "accuracy": accuracy(),
        "times": [*times(400, arguments.rounds), *times(1408, arguments.large_rounds)],
    }
    file = Path(__file__).parent / "results" / f"frechet-{document['date'][:10]}.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written: {file}")


if __name__ == "__main__":
    main()
