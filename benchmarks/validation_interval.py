"""Which bootstrap interval of a distance from few clips is right, and which of the difference of two: by simulation.

    python benchmarks/validation_interval.py [--rounds 80]

Features are normal, 32 of them, so that the mean distance from n clips is known by drawing many sets. An interval is right
if 95 % of those from single sets hold that mean. `eval/interval.py` follows from the result.

Of pairs, two rows of clips share half of their features' variance, as clips from the same first frames may. One case has
two rows of the same distribution, where 5 % should be told apart, and one has rows that differ. The interval from joint
resampling is beside that of rows taken as independent. It speaks of the reference clips at hand: "other reference clips"
says how often it holds the mean difference when they too are drawn anew. Figures go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eval.distances.frechet import frechet_distance, resampled_distances
from eval.interval import DEVIATIONS, RESAMPLES, distance_interval, half_width, paired_difference
from eval.row_distances import MEASURES

FEATURES, REFERENCE, DRAWS = 32, 512, 400
SHARED = 0.5  # share of the variance that two clips from the same first frame have in common


def coverage(clips: int, rounds: int) -> dict[str, float]:
    """Shares of the intervals that hold the mean distance from `clips` clips; and that hold their own distance."""
    rng = np.random.default_rng(clips)
    scales = np.exp(0.7 * rng.normal(size=FEATURES))
    reference = rng.normal(size=(REFERENCE, FEATURES)) * scales

    def generated(count: int) -> np.ndarray:
        return 0.8 * rng.normal(size=(count, FEATURES)) * scales + 0.5

    mean = float(np.mean([frechet_distance(generated(clips), reference) for _ in range(DRAWS)]))
    held = {"quantiles": 0, "mirrored quantiles": 0, "standard deviations": 0, "quantiles hold the distance itself": 0}
    for _ in range(rounds):
        x = generated(clips)
        distance, low, high = distance_interval(x, reference)
        lowest, highest = np.quantile(resampled_distances(x, reference, RESAMPLES), [0.025, 0.975])
        held["quantiles"] += lowest <= mean <= highest
        held["mirrored quantiles"] += 2 * distance - highest <= mean <= 2 * distance - lowest
        held["standard deviations"] += low <= mean <= high
        held["quantiles hold the distance itself"] += lowest <= distance <= highest
    infinite = frechet_distance(generated(50_000), reference)
    return {"mean": mean, "from_50000_clips": infinite, **{name: int(n) / rounds for name, n in held.items()}}


def paired_coverage(clips: int, rounds: int, moved: float) -> dict[str, dict[str, float]]:
    """Of two rows, the second moved by `moved` deviations: shares of the intervals of their difference that are right."""
    rng = np.random.default_rng(clips)
    scales = np.exp(0.7 * rng.normal(size=FEATURES))

    def drawn_reference() -> np.ndarray:
        return rng.normal(size=(REFERENCE, FEATURES)) * scales

    def rows() -> list[np.ndarray]:
        frames = rng.normal(size=(clips, FEATURES))
        own = rng.normal(size=(2, clips, FEATURES))
        mixed = np.sqrt(SHARED) * frames + np.sqrt(1 - SHARED) * own
        return [(0.8 * each + shift) * scales for each, shift in zip(mixed, (0.3, 0.3 + moved), strict=True)]

    reference, found = drawn_reference(), {}
    for key, (measure, resample) in MEASURES.items():

        def difference(to: np.ndarray, measure: Any = measure) -> float:
            first, second = (measure(row, to) for row in rows())
            return second - first

        truth = {
            "these reference clips": float(np.mean([difference(reference) for _ in range(DRAWS)])),
            "other reference clips": float(np.mean([difference(drawn_reference()) for _ in range(DRAWS)])),
        }
        right = dict.fromkeys(["paired", "paired, other reference clips", "as if independent", "told apart"], 0)
        widths = []
        for _ in range(rounds):
            pair = rows()
            values = [measure(row, reference) for row in pair]
            samples = [resample(row, reference, RESAMPLES) for row in pair]
            paired = paired_difference(values[0], values[1], samples[0], samples[1])
            alone = math.hypot(*map(half_width, samples))
            right["paired"] += paired.low <= truth["these reference clips"] <= paired.high
            right["as if independent"] += abs(paired.difference - truth["these reference clips"]) <= alone
            right["told apart"] += not paired.is_within_noise
            widths.append((paired.high - paired.difference) / alone)
            to = drawn_reference()
            values, samples = [measure(row, to) for row in pair], [resample(row, to, RESAMPLES) for row in pair]
            paired = paired_difference(values[0], values[1], samples[0], samples[1])
            right["paired, other reference clips"] += paired.low <= truth["other reference clips"] <= paired.high
        shares = {name: int(n) / rounds for name, n in right.items()}
        found[key] = {
            "mean_difference": truth["these reference clips"],
            **shares,
            "width_of_independent": np.mean(widths),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=80)
    rounds = parser.parse_args().rounds
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "numpy": np.__version__},
        "rounds": rounds,
        "deviations": DEVIATIONS,
        "coverage_of_95_percent_intervals": {f"{clips} clips": coverage(clips, rounds) for clips in (16, 64)},
        "pairs": {
            f"{clips} clips, {what}": paired_coverage(clips, rounds, moved)
            for clips in (16, 64)
            for what, moved in (("equal rows", 0.0), ("rows that differ", 0.15))
        },
    }
    file = Path(__file__).parent / "results" / f"validation_interval-{document['date'][:10]}.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))
    print(f"written: {file}")


if __name__ == "__main__":
    main()
