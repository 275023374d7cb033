"""The profile of our exported program on this host: time by operator, by block of the UNet, by kind of block.

    python benchmarks/profile_program.py [--precision fp32] [--threads 2] [--runs 5] [--quick]

The model is that of host_latency.py. XNNPACK measures the times itself (`export/profile/trace.py`); they are medians of
several runs in this process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.latency.machine import describe  # noqa: E402
from benchmarks.latency.model import FRAMES, HEIGHT, WIDTH, make_work  # noqa: E402
from export.profile.locate import by_block, by_part, locate  # noqa: E402
from export.profile.trace import OperatorTime, Profile, by_operator, trace_program  # noqa: E402
from export.program.layer_precision import IN_FULL_PRECISION  # noqa: E402
from export.program.program import Program  # noqa: E402
from export.quantization.static import quantize_static  # noqa: E402
from export.targets.executorch_xnnpack import ExecutorchXnnpack  # noqa: E402
from export.targets.xnnpack.lowering import lower_to_file, origins_of, translate  # noqa: E402

TOP = 10


def profile(program: Program, precision: str, threads: int, runs: int) -> tuple[Profile, list[str] | None]:
    """A program's profile, and the module that each of its events belongs to, if that is known."""
    graph = program.graph(ExecutorchXnnpack.phone_form)
    if precision == "int8":
        calibration = [tuple(inputs.values()) for inputs in program.calibration]
        graph = quantize_static(graph, program.example, calibration, IN_FULL_PRECISION)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.pte"
        lower_to_file(graph, file, precision, IN_FULL_PRECISION)
        trace = trace_program(file, program.example, threads, runs)
    with torch.no_grad():
        return trace, locate(trace.events, origins_of(translate(graph, precision, IN_FULL_PRECISION)))


def shares(rows: Iterable[OperatorTime]) -> list[dict[str, Any]]:
    """The rows, each with its share of their total time."""
    rows = list(rows)
    total = sum(row.ms for row in rows)
    return [{**row._asdict(), "share": row.ms / total} for row in rows]


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title:46s} {'count':>6s} {'ms':>10s} {'share':>7s}")
    for row in rows[:TOP]:
        print(f"{row['operator']:46s} {row['count']:6d} {row['ms']:10.2f} {row['share']:7.1%}")
    if rest := rows[TOP:]:
        count, ms, share = (sum(row[key] for row in rest) for key in ("count", "ms", "share"))
        print(f"{f'{len(rest)} others':46s} {count:6d} {ms:10.2f} {share:7.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=ExecutorchXnnpack.precisions, default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small model, to try the script")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        program = make_work(arguments.quick, Path(folder)).program
    trace, paths = profile(program, arguments.precision, arguments.threads, arguments.runs)

    tables = {"operators": shares(by_operator(trace.events))}
    if paths is not None:
        tables["blocks"] = shares(by_block(trace.events, paths))
        tables["parts"] = shares(by_part(trace.events, paths))
        single = (
            OperatorTime(f"{path}: {event.operator}", 1, event.ms)
            for event, path in zip(trace.events, paths, strict=True)
        )
        tables["single"] = shares(sorted(single, key=lambda row: -row.ms))
    titles = {"operators": "operator", "blocks": "block", "parts": "kind of block"}
    for name, title in titles.items():
        if name in tables:
            print_table(title, tables[name])
    if paths is None:
        print("\nXNNPACK put the operators of this program in another order: which block each is of cannot be told")
    print(
        f"\none evaluation {trace.total_ms:.1f} ms on {arguments.threads} threads; {trace.unaccounted_ms:.1f} ms of it in "
        "no operator's time"
    )
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": {tool: version(tool) for tool in ("torch", "executorch")},
        "threads": arguments.threads,
        "precision": arguments.precision,
        "runs": arguments.runs,
        "model": {"frames": FRAMES, "latents": [HEIGHT, WIDTH]},
        "total_ms": trace.total_ms,
        "unaccounted_ms": trace.unaccounted_ms,
        **{name: rows[: 5 * TOP] if name == "single" else rows for name, rows in tables.items()},
    }
    if not arguments.quick:
        suffix = "" if arguments.precision == "fp32" else f"-{arguments.precision}"
        arguments.out.mkdir(parents=True, exist_ok=True)
        file = arguments.out / f"profile{suffix}-{result['date'][:10]}.json"
        file.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
