"""A campaign against resuming: kills at random instants over all stages, full disks, a lost process, a truncated shard.

    python benchmarks/kill_and_resume.py [--kills 20] [--steps 10] [--seed 0] [--no-faults] [--out FILE]

One run in two processes is left alone; another is killed (SIGKILL of all its processes) and started again by the same
command until it has been killed so often, and then left to end. Both must end with the same weights, bit by bit. A kill
comes at a random instant after the time that the first run took to begin; before it there is nothing to interrupt. The
faults that follow must each be told in one line, and after the cause is removed the same command must end with the same
weights. Full disks need a small file system of their own (tmpfs, by root or in a user namespace); without one they are not
tried, and the result says so.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.latency.machine import describe  # noqa: E402
from benchmarks.resume.bed import child_kill, kill, launch, place_of, ranks_of, weights_of, write_config  # noqa: E402

DISK_MB = 160


def finish(config: Path, *more: str, command: str = "run") -> tuple[int, str]:
    """Run to the end; exit code and everything said."""
    process = launch(config, *more, command=command)
    said, _ = process.communicate()
    return process.returncode, said


def finish_alone(config: Path) -> tuple[float, float]:
    """Run to the end; seconds until the run's first file was there, and until the end."""
    process, begun = launch(config), time.perf_counter()
    while process.poll() is None and not (config.parent / "run" / "config.json").exists():
        time.sleep(0.1)
    start_s = time.perf_counter() - begun
    said, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(said[-3000:])
    return start_s, time.perf_counter() - begun


def told(said: str, word: str) -> list[str]:
    """Lines of the product that hold a word; the launcher's own report of an exit code is left out."""
    return [line for line in said.splitlines() if word in line and not line.startswith(("W1", "E1", "["))]


def kills(config: Path, count: int, start_s: float, life_s: float, rng: random.Random) -> list[dict[str, Any]]:
    """Start, kill at a random instant, start again, until a run was killed so often; where each was."""
    run, noted = config.parent / "run", []
    while len(noted) < count:
        process = launch(config)
        after = start_s + rng.random() * life_s
        try:
            said, _ = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            kill(process)
            noted.append({"after_s": round(after, 2), "in": place_of(run)})
            print(f"kill {len(noted)}: after {after:.1f} s in {noted[-1]['in']}", flush=True)
            continue
        if process.returncode != 0:
            raise SystemExit(f"the run ended by itself:\n{said[-3000:]}")
        shutil.rmtree(run)  # done before it was killed often enough: from the beginning again
        print("done before the kill; again from the beginning", flush=True)
    return noted


def lost_process(config: Path) -> dict[str, Any]:
    """SIGKILL of the second process alone, in the middle of training: the first must end, with one line."""
    process = launch(config)
    run = config.parent / "run"
    while not list(run.glob("01-*/checkpoint/step-*")):
        time.sleep(0.2)
        if process.poll() is not None:
            raise SystemExit(process.communicate()[0][-3000:])
    child_kill(ranks_of(process.pid)[-1])
    started = time.perf_counter()
    said, _ = process.communicate(timeout=120)
    lines = told(said, "another process of this run has ended")
    return {"ended_after_s": round(time.perf_counter() - started, 1), "lines": lines, "exit": process.returncode}


def truncated(pattern: str, word: str) -> Callable[[Path], dict[str, Any]]:
    """Cut the newest file of a pattern in the run's folder, see what is said, and put it back."""

    def attempt(config: Path) -> dict[str, Any]:
        file = sorted((config.parent / "run").glob(pattern))[-1]
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        code, said = finish(config)
        file.write_bytes(whole)
        return {"file": file.name, "lines": told(said, word), "exit": code}

    return attempt


def stopped_in(config: Path, pattern: str) -> None:
    """Run until a pattern is found in the run's folder, and kill."""
    process = launch(config)
    while not list((config.parent / "run").glob(pattern)):
        time.sleep(0.05)
        if process.poll() is not None:
            raise SystemExit(process.communicate()[0][-3000:])
    kill(process)


def full_disk(config: Path, keep_kb: int, command: str = "run") -> dict[str, Any]:
    """Fill the disk of the run but for a little, see what is said, and free it again."""
    filler = config.parent / "filler"
    free = shutil.disk_usage(config.parent).free
    filler.write_bytes(bytes(max(0, free - keep_kb * 1024)))
    code, said = finish(config, command=command)
    filler.unlink()
    lines = [line for line in said.splitlines() if "disk is full" in line or "free some space" in line]
    return {"free_kb": keep_kb, "lines": lines, "exit": code}


def small_disk(folder: Path) -> bool:
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return made.returncode == 0


def on_a_full_disk(work: Path, steps: int, expected: dict[str, str]) -> Any:
    disk = work / "disk"
    if not small_disk(disk):
        return "not tried: a small file system cannot be mounted here"
    try:
        config = write_config(disk, steps)
        result: dict[str, Any] = {"cache": full_disk(config, 30, "cache")}
        stopped_in(config, "03-*/checkpoint/step-*")
        result["checkpoint"] = full_disk(config, 300)
        stopped_in(config, "06-*/checkpoint/step-*")
        result["second checkpoint"] = full_disk(config, 600)
        code, _ = finish(config)
        for file in (disk / "run" / "06-funnels").glob("samples.mp4"):
            file.unlink()
        (disk / "run" / "06-funnels" / "metrics.json").unlink()
        (disk / "run" / "results.json").unlink()
        result["sample"] = full_disk(config, 4)
        code, said = finish(config)
        result["ends"] = {"exit": code, "identical": weights_of(disk / "run") == expected}
        return result
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def all_faults(work: Path, steps: int, expected: dict[str, str]) -> dict[str, Any]:
    """What is said of each fault, and whether the run ends as the one that was left alone."""
    config = write_config(_made(work / "faulty"), steps)
    found: dict[str, Any] = {"a process is killed": lost_process(config)}
    checkpoints = "01-*/checkpoint/step-*/shard-*.safetensors"
    found["a shard of a checkpoint is truncated"] = truncated(checkpoints, "broken checkpoint")(config)
    found["a shard of encoded clips is truncated"] = truncated("data/clips/*/shard-*.arrow", "shard-")(config)
    code, _ = finish(config)
    found["ends"] = {"exit": code, "identical": weights_of(config.parent / "run") == expected}
    found["a full disk"] = on_a_full_disk(work, steps, expected)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--life", type=float, help="seconds in which a kill comes  [default: a quarter of the first run's]"
    )
    parser.add_argument("--no-faults", action="store_true", help="kills alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="mobilevd-campaign-") as folder:
        work = Path(folder)
        alone = write_config(_made(work / "alone"), arguments.steps)
        start_s, whole_s = finish_alone(alone)
        life_s = (whole_s - start_s) / 4 if arguments.life is None else arguments.life
        expected = weights_of(alone.parent / "run")
        print(
            f"left alone: {whole_s:.0f} s, {start_s:.0f} until it began, {len(expected)} files of weights", flush=True
        )
        killed = write_config(_made(work / "killed"), arguments.steps)
        noted = kills(killed, arguments.kills, start_s, life_s, rng)
        finish(killed)
        identical = weights_of(killed.parent / "run") == expected
        print(f"killed {len(noted)} times: identical {identical}", flush=True)
        faults: Any = "not tried: --no-faults" if arguments.no_faults else all_faults(work, arguments.steps, expected)
    result = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": {tool: version(tool) for tool in ("torch", "accelerate", "mobilevd")},
        "settings": {"kills": arguments.kills, "steps": arguments.steps, "seed": arguments.seed, "processes": 2},
        "kills": noted,
        "identical_after_kills": identical,
        "faults": faults,
    }
    print(json.dumps({k: v for k, v in result.items() if k != "kills"}, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2).replace(f"{work}/", "") + "\n")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
