"""How often `compare` and the intervals of medians are wrong where neighbouring samples are alike.

    python benchmarks/compare_coverage.py [--series 2000]

Made-up latencies with a known median: autoregressions of several correlations, a drift, and independent samples; their
noise is lognormal, 10 %. Two series of one program are compared, and a verdict "regression" or "improvement" is wrong; the
95 % interval of a median is wrong if it does not hold it. The alternative is what takes samples as independent: the
Mann-Whitney test, the bootstrap and the order statistics of all n. Writes benchmarks/results/compare_coverage-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from device_runner.protocol.correlation import LEAST_EFFECTIVE, effective_samples
from device_runner.protocol.statistics import median_interval, percentile
from device_runner.results.compare import ALPHA, IMPROVEMENT, REGRESSION, THRESHOLD, judge
from device_runner.results.resampling import ratio_interval
from device_runner.results.significance import mann_whitney_p, too_few

MEDIAN_MS, NOISE = 40.0, 0.1
COUNTS = (20, 50, 200)
WRONG = (REGRESSION, IMPROVEMENT)


def autoregression(rho: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Series whose logarithms are an autoregression of this coefficient, in its stationary state."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        values = [rng.normal()]
        for shock in rng.normal(scale=math.sqrt(1 - rho * rho), size=n - 1):
            values.append(rho * values[-1] + shock)
        return MEDIAN_MS * np.exp(NOISE * np.array(values))

    return draw


def drifting(rng: np.random.Generator, n: int) -> np.ndarray:
    """Independent samples on a slope of a random sign, two deviations from end to end; its middle is the median."""
    slope = rng.choice([-1.0, 1.0]) * np.linspace(-1, 1, n)
    return MEDIAN_MS * np.exp(NOISE * (slope + rng.normal(size=n)))


SERIES = {**{f"correlation {rho:g}": autoregression(rho) for rho in (0.0, 0.3, 0.5, 0.7, 0.9)}, "drift": drifting}


def verdict(a: list[float], b: list[float], worth: tuple[float, float]) -> str:
    """The verdict of `compare` for two series worth so many independent samples."""
    if too_few(worth, (len(a), len(b)), ALPHA):
        return "too few"
    low, high = ratio_interval(a, b, 50, ALPHA, worth)
    ratio = percentile(b, 50) / percentile(a, 50)
    return judge(ratio, low, high, mann_whitney_p(a, b, worth), THRESHOLD, ALPHA)


def row(draw: Callable[[np.random.Generator, int], np.ndarray], n: int, series: int) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    counts = dict.fromkeys(("wrong", "too_few", "given", "held", "plain_wrong", "plain_held"), 0)
    for _ in range(series):
        a, b = (draw(rng, n).tolist() for _ in range(2))
        worth = effective_samples(a), effective_samples(b)
        ours, plain = verdict(a, b, worth), verdict(a, b, (n, n))
        counts["wrong"] += ours in WRONG
        counts["too_few"] += ours == "too few"
        counts["plain_wrong"] += plain in WRONG
        low, high = median_interval(a, effective=n)
        counts["plain_held"] += low <= MEDIAN_MS <= high
        if worth[0] >= LEAST_EFFECTIVE:
            low, high = median_interval(a)
            counts["given"] += 1
            counts["held"] += low <= MEDIAN_MS <= high
    return {
        "false verdicts": counts["wrong"] / series,
        "false verdicts, samples taken as independent": counts["plain_wrong"] / series,
        "too few to tell": counts["too_few"] / series,
        "intervals given": counts["given"] / series,
        "of those, the median is inside": counts["held"] / counts["given"] if counts["given"] else None,
        "intervals that are wrong, of all series": (counts["given"] - counts["held"]) / series,
        "the median is inside, samples taken as independent": counts["plain_held"] / series,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=2000, help="pairs of series of each kind and length")
    series = parser.parse_args().series
    rows = []
    for name, draw in SERIES.items():
        for n in COUNTS:
            rows.append({"series": name, "samples": n, **row(draw, n, series)})
            told = {key: None if value is None else round(value, 4) for key, value in list(rows[-1].items())[2:]}
            print(f"{name:16} n {n:4} {list(told.values())}", flush=True)
    day = datetime.now(UTC).date().isoformat()
    file = Path(__file__).parent / "results" / f"compare_coverage-{day}.json"
    content = {
        "date": day,
        "machine": {"system": f"{platform.system()} {platform.machine()}", "python": platform.python_version()},
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "series_of_each_kind": series,
        "standard_error_of_a_share_of_5_percent": math.sqrt(0.05 * 0.95 / series),
        "settings": {"median_ms": MEDIAN_MS, "noise": NOISE, "threshold": THRESHOLD, "alpha": ALPHA},
        "rows": rows,
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
