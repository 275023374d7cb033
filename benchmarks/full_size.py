"""Time and memory of exporting the SVD-size MobileVD, to each given target in a process of its own.

The model is the last row of the paper's table (14 frames, 512x256 pixels) with random weights, so the loss of a
quantized program says nothing about a trained one.

    python benchmarks/full_size.py [--target executorch-xnnpack:fp16 --target onnx:fp32] [--size medium]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from device_runner.bundle.whole_path import UNET  # noqa: E402
from export.bundle import Item, describe_model, write_bundle  # noqa: E402
from export.generator.one_step import OneStepSettings  # noqa: E402
from export.generator.unet_program import unet_program  # noqa: E402
from export.targets import parse_target  # noqa: E402
from mobilevd.commands.flops import paper_rows  # noqa: E402
from mobilevd.model.unet import SpatioTemporalUNet  # noqa: E402

SETTINGS = OneStepSettings(latent_height=32, latent_width=64, num_frames=14)
MEDIUM: dict[str, Any] = {"block_out_channels": (64, 128, 256, 256), "num_attention_heads": (1, 2, 4, 4)}
CONFIGS = {
    "full": next(row.config for row in paper_rows() if row.name == "MobileVD-HD 1024x576"),
    "medium": {**MEDIUM, "cross_attention": "projection"},
}
PROGRAM_MARK = "result: "


def export_one(size: str, target_name: str, out: Path) -> dict[str, Any]:
    """Export in this process, and return the time, memory and results."""
    started = time.perf_counter()
    torch.manual_seed(0)
    unet = SpatioTemporalUNet(**CONFIGS[size]).eval().requires_grad_(False)
    model = describe_model(unet, SETTINGS, None)
    target, precision = parse_target(target_name)
    program = unet_program(unet, SETTINGS, consume=True)
    del unet
    folded_s = time.perf_counter() - started
    folded_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    manifest = write_bundle([Item(program, precision)], target, out, name=size, model=model, allow_low_parity=True)
    entry = manifest.programs[UNET]
    return {
        "target": f"{target.name}:{precision}",
        "parameters": model.parameters,
        "model_and_reference_s": round(folded_s, 1),
        "model_and_reference_peak_mb": round(folded_mb),
        "lowering_s": entry.lowering_s,
        "total_s": round(time.perf_counter() - started, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "program_mb": round(entry.size_mb, 1),
        "psnr_db": entry.parity.psnr_db,
        "delegates": entry.delegation.delegates,
        "operators_outside": [each.to_json() for each in entry.delegation.operators_outside or ()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="may be repeated")
    parser.add_argument("--size", choices=sorted(CONFIGS), default="full")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--work", type=Path, help="where bundles are written; default: a temporary folder")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    targets = arguments.target or ["executorch-xnnpack:fp16", "onnx:fp32"]
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        if arguments.here:
            print(PROGRAM_MARK + json.dumps(export_one(arguments.size, targets[0], Path(folder) / "bundle")))
            return
        results = [_in_a_process(arguments.size, target, folder) for target in targets]
    print(f"{'target':26s} {'lowering s':>10s} {'total s':>8s} {'peak GB':>8s} {'file MB':>8s} {'PSNR dB':>8s} outside")
    for r in results:
        print(
            f"{r['target']:26s} {r['lowering_s']:10.1f} {r['total_s']:8.1f} {r['peak_memory_mb'] / 1e3:8.1f} "
            f"{r['program_mb']:8.1f} {r['psnr_db']:8.1f} {len(r['operators_outside'])}"
        )
    _write(arguments.out, arguments.size, results)


def _write(folder: Path, size: str, results: list[dict[str, Any]]) -> None:
    """Add the results to the day's file, one entry per target."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    file = folder / f"{size}_export-{date[:10]}.json"
    earlier = json.loads(file.read_text())["results"] if file.is_file() else []
    together = {result["target"]: result for result in (*earlier, *results)}
    record = {
        "date": date,
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        "versions": {t: version(t) for t in ("torch", "executorch", "onnx", "onnxruntime")},
        "size": size,
        "results": list(together.values()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written: {file}")


def _in_a_process(size: str, target: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--here", "--size", size, "--target", target, "--work", folder]
    print(f"exporting {size} to {target}", flush=True)
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    line = next((line for line in run.stdout.splitlines() if line.startswith(PROGRAM_MARK)), None)
    if line is None:
        sys.exit(f"exporting {size} to {target} failed with exit code {run.returncode}:\n{run.stdout}")
    return json.loads(line.removeprefix(PROGRAM_MARK))


if __name__ == "__main__":
    main()
