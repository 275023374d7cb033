"""The tiny run over several seeds: the results of the method at this scale, beside the targets.

    python benchmarks/tiny_seeds.py [--seeds 0 1 2]

Runs `mobilevd run configs/tiny.yaml` once per seed (about 12 minutes each on two cores; finished runs are only read)
and writes the figures to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE, BASE_ONE_STEP, LAST = 0, 1, -1  # rows of the table


def run_seed(seed: int) -> dict[str, Any]:
    """Run one seed, or read it if it is finished; return the content of its results.json."""
    output = ROOT / "runs" / ("tiny" if seed == 0 else f"tiny-seed{seed}")
    command = [sys.executable, "-m", "mobilevd", "run", "configs/tiny.yaml", f"seed={seed}", f"output={output}"]
    if not (output / "results.json").is_file():
        subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((output / "results.json").read_text())


def figures(results: dict[str, Any]) -> dict[str, float]:
    """The figures that have targets, and others beside them."""
    rows = results["rows"]
    base, plain, last = rows[BASE], rows[BASE_ONE_STEP], rows[LAST]
    return {
        "base distance": base["distance"],
        "final distance": last["distance"],
        "final over base": last["distance"] / base["distance"],
        "base in one step over final": plain["distance"] / last["distance"],
        "fewer FLOPs per clip": base["flops_per_clip"] / last["flops_per_clip"],
        "base motion": base["motion_ratio"],
        "final motion": last["motion_ratio"],
    }


AIMS = {
    "final over base": "<= 1.5",
    "base in one step over final": ">= 3",
    "fewer FLOPs per clip": ">= 100",
    "base motion": "0.7 to 1.4",
    "final motion": "0.7 to 1.4",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    results = {seed: run_seed(seed) for seed in seeds}
    found = {seed: figures(result) for seed, result in results.items()}
    print(f"{'':30s}" + "".join(f"{f'seed {seed}':>10s}" for seed in seeds) + "   aim")
    for name in found[seeds[0]]:
        values = "".join(f"{found[seed][name]:10.2f}" for seed in seeds)
        print(f"{name:30s}{values}   {AIMS.get(name, '')}")
    first = results[seeds[0]]
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**first["machine"], "platform": platform.platform()},
        "protocol": first["protocol"],
        "aims": AIMS,
        "figures": found,
        "rows": {
            seed: [{k: row[k] for k in ("name", "nfe", "distance", "motion_ratio", "tflops")} for row in result["rows"]]
            for seed, result in results.items()
        },
    }
    file = Path(__file__).parent / "results" / f"tiny_seeds-{document['date'][:10]}.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written: {file}")


if __name__ == "__main__":
    main()
