"""Latency of one UNet evaluation on this host: our exported programs against diffusers, torch.compile, ONNX Runtime.

All engines have the same weights and threads, and take turns round by round in one run, so that other load on the
machine affects all of them. Figures are medians; ratios are medians of the ratios within a round.

    python benchmarks/host_latency.py [--threads 2] [--rounds 7] [--quick]

Engines:
    program                the .pte of the one-step generator (XNNPACK), run by the C++ runner in a process of its own
    program, int8          the same with static int8 layers
    program, 8da8w         the same with 8-bit weights, ranges of activations measured at run time
    diffusers              UNetSpatioTemporalConditionModel, eager
    ours, eager            SpatioTemporalUNet, eager (native form)
    torch.compile          diffusers' module by inductor; "frozen": with weights as constants
    onnxruntime            diffusers' UNet exported with torch.onnx.export(dynamo=True)
    onnxruntime, ours      our graph as the target onnx writes it

The model is uncompressed: about 70 million parameters, 14 frames, latents of 32x64. All outputs are compared with
diffusers' before anything is timed. The speed of every engine is also given relative to the machine's peak: the
floating-point operations of our model (the same number for all; extra operations count as the engine's loss) over the
median time, divided by the fastest product of large float32 matrices of the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.latency.engines import MAKERS, Engine, Skipped  # noqa: E402
from benchmarks.latency.machine import describe, gemm_gflops  # noqa: E402
from benchmarks.latency.model import CALIBRATION, FRAMES, HEIGHT, WIDTH, Work, make_work  # noqa: E402
from device_runner.bundle.gates import GATES_DB  # noqa: E402
from export.program.parity import psnr_db  # noqa: E402
from mobilevd.model.flops import count_flops  # noqa: E402

REST_S = 0.3  # before each turn: the previous engine's threads spin for a moment after their work is done
BASE = next(iter(MAKERS))
REFERENCE = "diffusers"


def make_engines(
    work: Work, folder: Path, threads: int, wanted: Sequence[str]
) -> tuple[dict[str, Engine], dict[str, str]]:
    """The wanted engines that are available, and why the others are not; always makes the two for comparison."""
    engines, skipped = {}, {}
    for name, make in MAKERS.items():
        if name not in (*wanted, BASE, REFERENCE):
            continue
        started = time.perf_counter()
        try:
            engines[name] = make(work, folder, threads)
            print(f"ready: {name}, {time.perf_counter() - started:.1f} s", flush=True)
        except Skipped as reason:
            skipped[name] = str(reason)
            print(f"skipped: {name}: {reason}", flush=True)
    return engines, skipped


def compare_outputs(engines: dict[str, Engine]) -> dict[str, float]:
    """PSNR of each engine's output against diffusers'; ends the run if the output of a float32 engine differs."""
    parity = {name: psnr_db(engine.output, engines[REFERENCE].output) for name, engine in engines.items()}
    for name, engine in engines.items():
        if engine.exact and parity[name] < GATES_DB["fp32"]:
            sys.exit(f"{name}: its output is only {parity[name]:.1f} dB from diffusers'; nothing is timed")
    return parity


def take_turns(engines: dict[str, Engine], rounds: int) -> tuple[dict[str, list[float]], list[float]]:
    """Milliseconds per engine and round, and the speed of matrix products (GFLOP/s) per round."""
    samples: dict[str, list[float]] = {name: [] for name in engines}
    gemm = []
    names = list(engines)
    for number in range(rounds):
        first = number % len(names)  # another begins each round, so that no engine always follows the same one
        for name in names[first:] + names[:first]:
            time.sleep(REST_S)
            samples[name].append(engines[name].turn())
        gemm.append(gemm_gflops())
        taken = ", ".join(f"{name} {values[-1]:.0f} ms" for name, values in samples.items())
        print(f"round {number + 1}: {taken}, gemm {gemm[-1]:.0f} GFLOP/s", flush=True)
    return samples, gemm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engines", nargs="+", choices=MAKERS, default=list(MAKERS), metavar="NAME", help="not all")
    parser.add_argument("--quick", action="store_true", help="a small model and 2 rounds, to try the script")
    parser.add_argument("--work", type=Path, default=Path(".cache/host_latency"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    folder = arguments.work / ("quick" if arguments.quick else "medium")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    before = describe()

    with torch.no_grad():
        work = make_work(arguments.quick, folder)
        engines, skipped = make_engines(work, folder, arguments.threads, arguments.engines)
        assert torch.backends.mkldnn.enabled == before["onednn"], "a tool turned PyTorch's fast kernels off"
        parity = compare_outputs(engines)
        with torch.compiler.set_stance("fail_on_recompile"):  # compiling belongs to no turn
            samples, gemm = take_turns(engines, 2 if arguments.quick else arguments.rounds)

    flops = count_flops(work.unet, FRAMES, HEIGHT, WIDTH)
    ratios = {
        name: [x / base for x, base in zip(values, samples[BASE], strict=True)] for name, values in samples.items()
    }
    gflops = {name: flops.flops / statistics.median(values) / 1e6 for name, values in samples.items()}
    peak = max(gemm)
    print(
        f"\n{flops.parameters / 1e6:.1f} M parameters, {flops.flops / 1e9:.1f} GFLOP, {FRAMES} frames, latents "
        f"{HEIGHT}x{WIDTH}, {arguments.threads} threads; float32 products of matrices reach {peak:.0f} GFLOP/s"
    )
    print(
        f"{'engine':22s} {'median ms':>10s} {'program is faster by':>21s} {'GFLOP/s':>8s} {'of peak':>8s} {'PSNR dB':>8s}"
    )
    for name, values in samples.items():
        print(
            f"{name:22s} {statistics.median(values):10.0f} {statistics.median(ratios[name]):20.2f}x {gflops[name]:8.1f} "
            f"{gflops[name] / peak:8.1%} {parity[name]:8.1f}"
        )
    for name, reason in skipped.items():
        print(f"{name:22s} skipped: {reason}")
    for name, engine in engines.items():
        if "compile_s" in engine.notes:
            print(f"{name}: compiling took {engine.notes['compile_s']:.0f} s")
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": before,
        "versions": {t: version(t) for t in ("torch", "diffusers", "executorch", "onnxruntime")},
        "threads": arguments.threads,
        "model": {
            "parameters": flops.parameters,
            "flops": flops.flops,
            "flops_by_kind": flops.by_kind,
            "frames": FRAMES,
            "latents": [HEIGHT, WIDTH],
            "calibration_inputs": CALIBRATION,
        },
        "samples_ms": samples,
        "times_slower_than_program": {name: statistics.median(values) for name, values in ratios.items()},
        "times_slower_than_program_per_round": ratios,
        "psnr_db": parity,
        "roofline": {
            "gemm_gflops_per_round": gemm,
            "gemm_gflops": peak,
            "gflops": gflops,
            "part_of_gemm": {name: value / peak for name, value in gflops.items()},
        },
        "engines": {name: engine.notes for name, engine in engines.items()},
        "skipped": skipped,
    }
    if not arguments.quick:
        arguments.out.mkdir(parents=True, exist_ok=True)
        file = arguments.out / f"host_latency-{result['date'][:10]}.json"
        file.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
