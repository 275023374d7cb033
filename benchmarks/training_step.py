"""A training step against the plain loop on diffusers' UNet, and an adversarial step in both forms; time and memory.

    python benchmarks/training_step.py [--size medium] [--precisions no bf16] [--rounds 5] [--compile] [--out FILE]

All arms do the same work on the same random clips, take turns in one process, and are compared by their medians. Memory is
the peak resident memory of a fresh process that takes two steps, less what it had before the model was made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.latency.machine import describe  # noqa: E402
from benchmarks.training.work import our_step, our_trainer, plain_diffusers  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 2

Step = Callable[[int], None]


def arm(name: str, size: str, precision: str) -> Step:
    """A function that takes one optimizer step, by the name of the arm."""
    if name == "diffusers, plain loop":
        return plain_diffusers(size, precision)
    if name == "diffusers, compiled":
        return plain_diffusers(size, precision, compile=True)
    if name == "ours":
        return our_step(our_trainer(size, precision))
    if name == "ours, compiled":
        return our_step(our_trainer(size, precision, compile=True))
    updates = "shared" if "shared" in name else "alternating"
    own = {"updates": updates, "r1_method": "finite_difference" if "differences" in name else "gradient"}
    return our_step(our_trainer(size, precision, "adversarial", own))


DENOISE = ["diffusers, plain loop", "ours"]
COMPILED = ["diffusers, compiled", "ours, compiled"]
ADVERSARIAL = ["adversarial, alternating", "adversarial, shared", "adversarial, shared, R1 by differences"]


def timed(names: list[str], size: str, precision: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step of each arm, which take turns."""
    arms = {name: arm(name, size, precision) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(WARM_UP + rounds):
        for name, step in arms.items():
            started = time.perf_counter()
            step(number)
            if number >= WARM_UP:
                samples[name].append(time.perf_counter() - started)
                print(f"{precision} {name}: {samples[name][-1]:.2f} s", flush=True)
    return samples


def resident_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def peak_of(name: str, size: str, precision: str) -> float:
    """Peak memory of two steps in MB, in a process of its own."""
    script = (
        "import sys; from benchmarks.training_step import arm, resident_mb\n"
        "before = resident_mb('VmRSS'); step = arm(*sys.argv[1:]); step(0); step(1)\n"
        "print(resident_mb('VmHWM') - before)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", script, name, size, precision]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "medium"], default="medium")
    parser.add_argument("--precisions", nargs="+", choices=["no", "bf16"], default=["no", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--compile", action="store_true", help="both compiled, too: minutes until their first step is done"
    )
    parser.add_argument("--no-adversarial", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    for precision in arguments.precisions:
        denoise = [*DENOISE, *(COMPILED if arguments.compile else [])]
        for names in (denoise, [] if arguments.no_adversarial else ADVERSARIAL):
            if not names:
                continue
            samples = timed(names, arguments.size, precision, arguments.rounds)
            first = statistics.median(samples[names[0]])
            for name in names:
                median = statistics.median(samples[name])
                row = {
                    "arm": name, "precision": precision, "median_s": median, "times_as_fast": first / median,
                    "against": names[0], "peak_mb": peak_of(name, arguments.size, precision), "samples_s": samples[name],
                }  # fmt: skip
                rows.append(row)
                print(f"{precision} {name}: {median:.2f} s, {first / median:.2f}x, {row['peak_mb']:.0f} MB", flush=True)
    result = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": {tool: version(tool) for tool in ("torch", "diffusers", "mobilevd")},
        "size": arguments.size,
        "threads": arguments.threads,
        "rows": rows,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
