"""The cost of measuring over adb beyond the measured program: pushing, the call itself, and the import.

    python benchmarks/adb_overhead.py [--adb PATH ...] [--megabytes 300] [--rounds 5]

A genuine adbd runs in namespaces of its own (Linux, with mmdebstrap, unshare and nsenter). Three figures are measured:

- pushing a large file with `AdbDevice` against plain `adb push` of the same file, in turns, with no copy on the device;
- `mobilevd bench` of a small bundle as a process: its wall time beyond the runner's own (loading, warm-up, timed runs);
- `import device_runner` in a fresh Python beyond that Python's own start.

The targets are 1.1 times plain `adb push`, 1.5 s, and 0.2 s; the exit code is 1 if one is missed. Results go to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.faults.bed import Bed  # noqa: E402
from benchmarks.latency.machine import describe  # noqa: E402
from device_runner.devices.adb.device import AdbDevice  # noqa: E402
from device_runner.devices.adb.program import find_program  # noqa: E402
from device_runner.devices.host import HostDevice  # noqa: E402
from device_runner.devices.job import FILES, Job, Step  # noqa: E402
from device_runner.runners.deployment import glibc_deployment  # noqa: E402

BASE = "/data/local/tmp/mobilevd"
PUSH_RATIO, OVERHEAD_S, IMPORT_S = 1.1, 1.5, 0.2


def timed(action: Any) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def push_figures(bed: Bed, megabytes: int, rounds: int) -> dict[str, Any]:
    """Seconds of both ways, in turns. `ours_s` lasts until everything is on the device, `check_s` until its SHA-256 was
    computed there (while the device's state is read); a bundle knows the file's own SHA-256 beforehand."""
    file = bed.folder / "large.bin"
    file.write_bytes(os.urandom(megabytes * 1_000_000))
    device = AdbDevice.from_argument(bed.phone.serial, str(bed.adb))
    step = Step("look", ("ls", f"{FILES}/large.bin"))
    files = {"large.bin": file}
    known = {"large.bin": hashlib.sha256(file.read_bytes()).hexdigest()}
    rows: dict[str, list[float]] = {"plain_s": [], "ours_s": [], "check_s": []}
    for number in range(rounds + 1):
        bed.sh(f"rm -rf {BASE} /data/local/tmp/plain.bin")
        plain = ["push", str(file), "/data/local/tmp/plain.bin"]
        plain_s = timed(
            lambda plain=plain: subprocess.run([bed.adb, "-s", bed.phone.serial, *plain], capture_output=True)
        )
        bed.sh("rm -f /data/local/tmp/plain.bin")
        job = Job(f"{number:064x}", "push", files, frozenset(), known, (step,), 60)
        with tempfile.TemporaryDirectory() as out:
            transfer = device.run(job, Path(out), lambda: None, lambda text, share: None).transfer
        if number:  # the first round warms up both
            rows["plain_s"].append(plain_s)
            rows["ours_s"].append(transfer["push_s"])
            rows["check_s"].append(transfer["check_s"])
    bed.sh(f"rm -rf {BASE}")
    file.unlink()
    medians = {name: statistics.median(values) for name, values in rows.items()}
    return {
        "megabytes": megabytes,
        **rows,
        "ratio_of_medians": medians["ours_s"] / medians["plain_s"],
        "ratio_with_check": (medians["ours_s"] + medians["check_s"]) / medians["plain_s"],
        "plain_mb_s": megabytes / medians["plain_s"],
        "ours_mb_s": megabytes / medians["ours_s"],
    }


def bench_figures(bed: Bed, rounds: int) -> dict[str, Any]:
    """Wall time of the command beyond the runner's own; all files are on the device, except in the first call."""
    rows: dict[str, list[float]] = {"wall_s": [], "runner_s": [], "overhead_s": []}
    result = bed.folder / "result.json"
    command = [sys.executable, "-m", "mobilevd", "bench", str(bed.pristine), "--device", f"adb:{bed.phone.serial}"]
    command += ["--adb", str(bed.adb), "--protocol", "quick", "--json", str(result)]
    for _ in range(rounds + 1):
        wall = timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT))
        (measurement,) = json.loads(result.read_text())["measurements"]
        times = (
            measurement["warmup_ms"] + measurement["samples_ms"] + [load["total"] for load in measurement["loads_ms"]]
        )
        rows["wall_s"].append(wall)
        rows["runner_s"].append(sum(times) / 1e3)
        rows["overhead_s"].append(wall - sum(times) / 1e3)
    return {
        **rows,
        "first_call_overhead_s": rows["overhead_s"][0],
        "overhead_s_median": statistics.median(rows["overhead_s"][1:]),
    }


def import_figures(rounds: int) -> dict[str, Any]:
    """Seconds of a fresh Python with each import, in turns; none of the imports may load torch."""
    modules = {
        "python_s": "",
        "device_runner_s": "import device_runner; ",
        "measure_s": "import device_runner.measure.measure; ",
    }
    rows: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(rounds):
        for name, text in modules.items():
            command = [sys.executable, "-c", f"{text}import sys; assert 'torch' not in sys.modules"]
            rows[name].append(timed(lambda command=command: subprocess.run(command, check=True, cwd=ROOT)))
    start = statistics.median(rows["python_s"])
    beyond = {f"{name}_beyond_python": statistics.median(rows[name]) - start for name in modules if name != "python_s"}
    return {**rows, **beyond}


def tell(version: str, result: dict[str, Any]) -> None:
    push, bench = result["push"], result["bench"]
    print(
        f"adb {version}: push {push['ours_mb_s']:.0f} MB/s, plain {push['plain_mb_s']:.0f} MB/s, "
        f"{push['ratio_of_medians']:.2f} times its time; SHA-256 there {statistics.median(push['check_s']):.2f} s"
    )
    print(
        f"  bench: {bench['overhead_s_median']:.2f} s on top of the runner's own "
        f"{statistics.median(bench['runner_s']):.2f} s; first call, pushing, {bench['first_call_overhead_s']:.2f} s"
    )


def missed(results: dict[str, Any], imports: dict[str, Any]) -> list[str]:
    """The targets that were not reached, as text."""
    found = []
    for version, result in results.items():
        for what, value, aim in (
            ("push", result["push"]["ratio_of_medians"], PUSH_RATIO),
            ("bench", result["bench"]["overhead_s_median"], OVERHEAD_S),
        ):
            if value > aim:
                found.append(f"adb {version}: {what} {value:.2f}, the aim is {aim}")
    value = imports["device_runner_s_beyond_python"]
    return found + ([f"import {value:.2f} s, the aim is {IMPORT_S}"] if value > IMPORT_S else [])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adb", action="append", help="may be repeated; else the one that bench would take")
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        os.environ["MOBILEVD_CACHE"] = str(Path(folder) / "cache")
        glibc_deployment(HostDevice().platform().abi)
        for index, program in enumerate(arguments.adb or [find_program().path]):
            (Path(folder) / str(index)).mkdir()
            bed = Bed(Path(folder) / str(index), program, size="1g")
            try:
                version = find_program(str(bed.adb)).version
                results[version] = {
                    "push": push_figures(bed, arguments.megabytes, arguments.rounds),
                    "bench": bench_figures(bed, arguments.rounds),
                }
            finally:
                bed.close()
            tell(version, results[version])
    imports = import_figures(2 * arguments.rounds)
    alone, all_of_it = imports["device_runner_s_beyond_python"], imports["measure_s_beyond_python"]
    print(f"import device_runner {alone:.3f} s, with all that measures {all_of_it:.3f} s")
    now = datetime.now(UTC)
    machine = {"created": now.isoformat(timespec="seconds"), "machine": describe()}
    file = ROOT / "benchmarks" / "results" / f"adb_overhead-{now:%Y-%m-%d}.json"
    file.write_text(json.dumps({**machine, "adb": results, "import": imports}, indent=1) + "\n")
    print(f"written: {file.relative_to(ROOT)}")
    for text in missed(results, imports):
        print(f"MISSED: {text}")
    return 1 if missed(results, imports) else 0


if __name__ == "__main__":
    sys.exit(main())
