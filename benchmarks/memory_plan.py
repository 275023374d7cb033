"""The planned memory of trainings beside the real peak, on a processor; and the tables of docs/memory.md (`--table`).

python benchmarks/memory_plan.py [--case NUMBER ...]      plan and measure; results to benchmarks/results/
python benchmarks/memory_plan.py --table [--out FILE]     SVD's size on GPUs of 80 and 24 GB, without any GPU
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.latency.machine import describe  # noqa: E402
from benchmarks.memory.peak import ENVIRONMENT, measured_peak  # noqa: E402
from benchmarks.memory.small_runs import CASES, Case  # noqa: E402
from benchmarks.memory.svd_tables import write_tables  # noqa: E402
from training.plan.fit import run_of  # noqa: E402
from training.plan.machine import machine_of  # noqa: E402
from training.plan.memory import stage_memory  # noqa: E402

MIB = 2**20


def compare(case: Case) -> dict[str, Any]:
    """The planned and the measured peak of a training, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = run_of(case.config(Path(folder)))
        memory = stage_memory(run, run.stages[0], machine_of(run.config.hardware), 2)
        planned_s = time.perf_counter() - started
        real = measured_peak(case)
    parts = {name: round(value / MIB, 1) for name, value in vars(memory).items()}
    return {
        "case": case.name,
        "planned_mb": round(memory.total / MIB, 1),
        "measured_mb": round(real / MIB, 1),
        "planned over measured": round(memory.total / real, 3),
        "planning_s": round(planned_s, 1),
        "planned_parts_mb": parts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int, action="append", help="number of a case; may be repeated; default: all")
    parser.add_argument("--table", action="store_true", help="write the tables of SVD's size instead")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "memory.md")
    arguments = parser.parse_args()
    if arguments.table:
        write_tables(arguments.out)
        return
    rows = []
    for number in arguments.case or range(len(CASES)):
        rows.append(compare(CASES[number]))
        row = rows[-1]
        ratio = row["planned over measured"]
        print(f"{row['case']:55s} {row['planned_mb']:8.1f} {row['measured_mb']:8.1f} MB {ratio:6.3f}", flush=True)
        _write(rows)


def _write(rows: list[dict[str, Any]]) -> None:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    file = Path(__file__).parent / "results" / f"memory_plan-{date[:10]}.json"
    earlier = json.loads(file.read_text())["rows"] if file.is_file() else []
    together = {row["case"]: row for row in (*earlier, *rows)}
    record = {
        "date": date,
        "machine": describe(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "accelerate")},
        "allocator": ENVIRONMENT,
        "rows": list(together.values()),
    }
    file.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
