"""Which bootstrap interval of a Frechet distance from few clips is right: three ways against the truth, by simulation.

    python benchmarks/validation_interval.py [--rounds 80]

Features are normal, 32 of them, so that the mean distance from n clips is known by drawing many sets. An interval is right
if 95 % of those from single sets hold that mean. `eval/interval.py` follows from the result. Figures go to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from eval.distances.frechet import frechet_distance, resampled_distances
from eval.interval import DEVIATIONS, distance_interval

FEATURES, REFERENCE, DRAWS, RESAMPLES = 32, 512, 400, 200


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
    }
    file = Path(__file__).parent / "results" / f"validation_interval-{document['date'][:10]}.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))
    print(f"written: {file}")


if __name__ == "__main__":
    main()
