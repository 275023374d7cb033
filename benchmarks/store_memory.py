"""Resident memory of a process that trains from a store of 1 000, 10 000 and 100 000 clips.

    python benchmarks/store_memory.py [--reads 4000]

The clips are of SVD's size (latents 14x4x32x64, embedding 1024, first frame 256x512). A real shard of random clips is
written once; further shards are links to it, so that every position can be read, and 100 000 clips (38 GB) take the disk
of one shard. Memory is told as growth from before the store is opened, after opening it, and after batches were drawn
through the order of a training, with the next batch read ahead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.latency.machine import describe  # noqa: E402
from mobilevd.files import sha256_file  # noqa: E402
from training.data.batch import StoredClip  # noqa: E402
from training.data.order import Order  # noqa: E402
from training.data.prefetch import Prefetch  # noqa: E402
from training.data.store.decoding import compressed  # noqa: E402
from training.data.store.manifest import MANIFEST, Section, Shard, StoreManifest, shard_file  # noqa: E402
from training.data.store.place import place_at  # noqa: E402
from training.data.store.read import open_store  # noqa: E402
from training.data.store.shard import ShardFile, schema_of  # noqa: E402

COUNTS = (1_000, 10_000, 100_000)
PER_SHARD = 1_000
LATENTS, EMBEDDING, HEIGHT, WIDTH = (14, 4, 32, 64), 1024, 256, 512
BATCH = 8
MARK = "result: "


def write_shard(folder: Path) -> Shard:
    """A real shard of random latents, and frames of soft shapes with noise."""
    rng = np.random.default_rng(0)
    file = folder / "real.arrow"
    shard = ShardFile(file, schema_of(LATENTS, EMBEDDING))
    soft = np.add.outer(np.linspace(0, 120, HEIGHT), np.linspace(0, 120, WIDTH))[..., None]
    frame = compressed(np.clip(soft + rng.normal(0, 2, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8))
    for number in range(PER_SHARD):
        latents = rng.standard_normal(LATENTS, dtype=np.float32).astype(np.float16)
        shard.add(str(number), latents, latents.reshape(-1)[:EMBEDDING].copy(), 127.0, frame)
    shard.close()
    return Shard(0, file.stat().st_size, sha256_file(file), shard.bounds)


def make_store(folder: Path, real: Shard, count: int) -> Path:
    """A store of `count` clips out of links to the real shard."""
    store = folder / str(count)
    store.mkdir()
    shards = [replace(real, number=number) for number in range(count // PER_SHARD)]
    for shard in shards:
        os.link(folder / "real.arrow", store / shard.file)
    section = Section(HEIGHT, WIDTH, count, PER_SHARD, LATENTS, EMBEDDING)
    manifest = StoreManifest({}, "fp32", [section], shards)
    (store / MANIFEST).write_text(json.dumps(manifest.to_json()))
    return store


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(folder: Path, reads: int) -> dict[str, Any]:
    """Open and read a store in this process."""
    before = resident_mb()
    started = time.perf_counter()
    store = open_store(place_at(folder))
    open_s, opened = time.perf_counter() - started, resident_mb()
    order = Order(store.sizes, BATCH, 0)
    batches: Prefetch[int, list[StoredClip]] = Prefetch(lambda step: store.read(order.clips(step, 0, range(BATCH))))
    peak = opened
    started = time.perf_counter()
    for step in range(reads // BATCH):
        batches.announce(step + 1)
        batches.take(step)
        peak = max(peak, resident_mb())
    read_s = time.perf_counter() - started
    return {
        "clips": len(store),
        "gigabytes": sum((folder / shard_file(n)).stat().st_size for n in range(len(store) // PER_SHARD)) / 1e9,
        "open_s": open_s,
        "open_growth_mb": opened - before,
        "peak_growth_mb": peak - before,
        "read_clips_per_s": reads / read_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(MARK + json.dumps(measure(arguments.folder, arguments.reads)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        real = write_shard(Path(folder))
        for count in COUNTS:
            store = make_store(Path(folder), real, count)
            command = [sys.executable, __file__, "--folder", str(store), "--reads", str(arguments.reads)]
            done = subprocess.run(command, capture_output=True, text=True)
            lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
            if not lines:
                raise SystemExit(done.stderr[-2000:])
            rows.append(json.loads(lines[0].removeprefix(MARK)))
            row = rows[-1]
            print(
                f"{row['clips']:7d} clips, {row['gigabytes']:5.1f} GB: opened in {row['open_s']:.2f} s, "
                f"+{row['open_growth_mb']:.1f} MB; reading +{row['peak_growth_mb']:.1f} MB at the most, "
                f"{row['read_clips_per_s']:.0f} clips/s",
                flush=True,
            )
    now = datetime.now(UTC)
    record = {
        "created": now.isoformat(timespec="seconds"),
        "machine": describe(),
        "pyarrow": version("pyarrow"),
        "batch": BATCH,
        "reads": arguments.reads,
        "shard": {key: value for key, value in asdict(real).items() if key in ("bytes", "sha256")},
        "rows": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"store_memory-{now:%Y-%m-%d}.json"
    file.write_text(json.dumps(record, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main()
