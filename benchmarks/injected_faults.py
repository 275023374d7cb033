"""Injects faults at random points of measurements over adb, and reports the outcome of each.

    python benchmarks/injected_faults.py [--faults 200] [--seed 0] [--adb PATH ...] [--unchecked]

A genuine adbd runs in namespaces of its own (Linux, with mmdebstrap, unshare and nsenter). A small real program is
measured on it while adbd dies, links drop, disks fill, files are damaged, the phone restarts, or this process is
killed. A script on the device records what truly ran; no measurement reads this record. An accepted result is wrong if
its samples are not those of a process that truly ran to its end on the device, if one is missing, or if no result can
be right under the fault. Faults that came too late to hit anything are counted separately. `--unchecked` is the
control: the same faults with every check switched off, where wrong results must come through and be noticed.

The exit code is 1 if a wrong result was accepted or a measurement hung. Results go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.faults.bed import Bed, Outcome  # noqa: E402
from benchmarks.faults.bench_once import PROTOCOL  # noqa: E402
from benchmarks.faults.kinds import BEFORE, DURING  # noqa: E402
from benchmarks.latency.machine import describe  # noqa: E402
from device_runner.devices.adb.program import find_program  # noqa: E402
from device_runner.devices.host import HostDevice  # noqa: E402
from device_runner.runners.deployment import glibc_deployment  # noqa: E402


def one_fault(bed: Bed, kind: str, rng: random.Random) -> dict[str, Any]:
    """Inject one fault into one measurement."""
    bundle = bed.fresh_bundle()
    fresh = rng.random() < 0.3
    if fresh:  # else the files are there from the last time, and nothing is pushed
        bed.sh("rm -rf /data/local/tmp/mobilevd")
    started = time.monotonic()
    hit = 1
    if kind in BEFORE:
        BEFORE[kind](bundle, bed, rng)
        measuring = bed.start(bundle, fresh)
    else:
        measuring = bed.start(bundle, fresh)
        hit = DURING[kind](bed, measuring, rng)
    outcome = measuring.outcome()
    wrong = why_wrong(outcome, bed, kind in BEFORE)
    row = {
        "kind": kind,
        "hit": hit,
        "seconds": round(time.monotonic() - started, 1),
        "outcome": "WRONG" if wrong else "accepted" if outcome.accepted else "refused",
        "said": wrong or outcome.said.removeprefix("refused: "),
        "taken_up": bool(outcome.accepted and outcome.accepted["transfer"]["taken_up"]),
        "reconnects": outcome.accepted["transfer"].get("reconnects", 0) if outcome.accepted else None,
    }
    bed.settle()
    return row


def why_wrong(outcome: Outcome, bed: Bed, must_fail: bool) -> str | None:
    """The reason why an outcome is wrong; None if it is right."""
    if outcome.said == "HUNG":
        return "it hung"
    if outcome.accepted is None:
        # A refusal in one line, or an end by the fault (interrupted or killed), is right; a traceback never is.
        return None if not any("Traceback" in line for line in outcome.progress) else "a traceback"
    if must_fail:
        return "accepted, although nothing right could come of it"
    samples = [round(ms * 1e6) for ms in outcome.accepted["samples_ms"]]
    if samples not in bed.witnessed():
        return f"its {len(samples)} samples are not those of any run that came to its end"
    if len(samples) < PROTOCOL.iterations or len(outcome.accepted["loads_ms"]) != PROTOCOL.cold_loads + 1:
        return f"only {len(samples)} samples"
    (output,) = outcome.accepted["outputs"]
    if output["psnr_db"] is not None and output["psnr_db"] < output["min_psnr_db"]:
        return f"its output has {output['psnr_db']} dB"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adb", action="append", help="may be repeated: they take turns")
    parser.add_argument("--unchecked", action="store_true", help="believe everything: WRONG must then not be 0")
    parser.add_argument("--kind", action="append", choices=[*DURING, *BEFORE], help="only these")
    arguments = parser.parse_args()
    programs = arguments.adb or [find_program().path]
    rng = random.Random(arguments.seed)
    kinds = arguments.kind or [*DURING, *BEFORE]
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["MOBILEVD_CACHE"] = str(Path(folder) / "cache")
        glibc_deployment(HostDevice().platform().abi)  # built once, before anything is timed
        beds = []
        try:
            for index, program in enumerate(programs):
                (Path(folder) / str(index)).mkdir()
                beds.append(Bed(Path(folder) / str(index), program, unchecked=arguments.unchecked))
            while sum(row["hit"] > 0 for row in rows) < arguments.faults and len(rows) < 2 * arguments.faults:
                number = len(rows)
                bed = beds[number // len(kinds) % len(beds)]
                row = one_fault(bed, kinds[number % len(kinds)], rng)
                rows.append({"adb": find_program(str(bed.adb)).version, **row})
                said = row["said"][:150] if row["hit"] else "(it was over before the fault came: not counted)"
                line = f"{number + 1:4d} {row['kind']:24s} {row['outcome']:9s} {row['seconds']:5.1f} s  {said}"
                print(line, flush=True)
        finally:
            for bed in beds:
                bed.close()
    return report(rows, arguments)


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> int:
    missed = sum(not row["hit"] for row in rows)
    counted = [row for row in rows if row["hit"] or row["outcome"] == "WRONG"]
    counts = Counter(row["outcome"] for row in counted)
    print(
        f"\n{len(counted)} faults ({missed} more came too late): {counts['accepted']} accepted and right, "
        f"{counts['refused']} refused, {counts['WRONG']} WRONG"
    )
    print(f"{'fault':24s} {'accepted':>8s} {'refused':>8s} {'WRONG':>6s}")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = Counter(row["outcome"] for row in counted if row["kind"] == kind)
        print(f"{kind:24s} {of_kind['accepted']:8d} {of_kind['refused']:8d} {of_kind['WRONG']:6d}")
    now = datetime.now(UTC)
    result = {
        "created": now.isoformat(timespec="seconds"),
        "machine": describe(),
        "seed": arguments.seed,
        "unchecked": arguments.unchecked,
        "faults": len(counted),
        "too_late": missed,
        **{name: counts[name] for name in ("accepted", "refused", "WRONG")},
        "rows": rows,
    }
    file = ROOT / "benchmarks" / "results" / f"injected_faults{'_unchecked' * arguments.unchecked}-{now:%Y-%m-%d}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {file.relative_to(ROOT)}")
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
