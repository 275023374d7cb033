"""Libraries for a store of encoded clips, measured on samples of a real size: writing, opening, reading at random, memory.

    python benchmarks/store_choice.py [--clips 2000] [--python NAME=PYTHON ...]

Every candidate runs in a process of its own, with the Python that is named for it (each in an environment of its own: some
of them cannot be installed beside this project) or this one. A sample is what training needs of a clip at 256x512: latents
14x4x32x64 in float16 (229 KB), an embedding of 1024 in float16, and a first frame as random bytes of the size of a PNG.
Reading is warm: the files are in the page cache, so that the library is measured and not the disk. Resident memory is
told apart into anonymous memory and mapped pages of files: the system may take the second away, but counts both.

What was chosen, and why: Arrow files (pyarrow), one record batch per clip, read by position. On 2026-11-28, 2000 clips in
four shards, two cores shared with other work:

    library              write/s  open s   read/s  anonymous MB  mapped MB
    wids                     324     3.9     3104           265       1047
    datasets                 399     3.2     8712            71        871
    litdata                   99     3.5        9           327       1062
    mosaicml-streaming       139    13.3    16964           370        293
    pyarrow                  693    0.04    13745             5         28

- wids fits, but webdataset dropped it in 1.0; what is left reads shards in sequence alone. It maps shards whole.
- litdata reads in order; at random every clip costs a search through its chunk. MosaicML streaming reads fastest, but asks
  for transformers < 5 and numpy < 2.2, which cannot be installed here, and brings the clients of four clouds. Both want to
  own the order of samples, and merge an index after writing.
- Hugging Face datasets keeps Arrow files, too. It maps them, so that resident memory grows with what was read, and opening
  walks through every batch; its part that is needed here is pyarrow, which has no dependencies of its own.
- With pyarrow a clip is one `pread`, or one range request through fsspec; a shard that another process wrote, or that was
  written before a kill, needs no index to be merged; and everybody's tools open it (`pyarrow.ipc.open_file`,
  `datasets.load_dataset("arrow", ...)`).

Pictures: lossless formats of the first frame, on frames of this project's procedural videos and on a photograph-like one
(smooth shapes with sensor noise), since noise is what a lossless format pays for.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LATENTS, EMBEDDING, FRAME = 14 * 4 * 32 * 64 * 2, 1024 * 2, 200_000  # bytes
SHARD_BYTES = 256 << 20
COLUMNS = ("latents", "embedding", "frame")
MARK = "result: "

Read = Callable[[int], Any]


def sample(number: int) -> dict[str, bytes]:
    """Random bytes, of which a part is shared: neither compresses, and making them does not take the time."""
    rng = np.random.default_rng(number)
    return {name: rng.bytes(size) for name, size in zip(COLUMNS, (LATENTS, EMBEDDING, FRAME), strict=True)}


def wids_write(folder: Path, count: int) -> None:
    writer_of = import_module("webdataset").TarWriter  # of the last version with wids, 0.2

    per_shard = SHARD_BYTES // (LATENTS + EMBEDDING + FRAME)
    for first in range(0, count, per_shard):
        with writer_of(str(folder / f"{first:06d}.tar")) as writer:
            for number in range(first, min(first + per_shard, count)):
                writer.write({"__key__": f"{number:08d}", **sample(number)})


def wids_open(folder: Path) -> Read:
    import wids  # type: ignore[import-not-found]
    from wids.wids import IndexedTarSamples  # type: ignore[import-not-found]

    files = sorted(folder.glob("*.tar"))
    shards = [{"url": str(file), "nsamples": len(IndexedTarSamples(path=str(file)))} for file in files]
    dataset = wids.ShardListDataset(shards, lru_size=100, transformations=lambda each: each, keep=True)
    return lambda number: [dataset[number][f".{name}"].read() for name in COLUMNS]


def datasets_write(folder: Path, count: int) -> None:
    from datasets.arrow_writer import ArrowWriter  # type: ignore[import-not-found]

    per_shard = SHARD_BYTES // (LATENTS + EMBEDDING + FRAME)
    for first in range(0, count, per_shard):
        with ArrowWriter(path=str(folder / f"{first:06d}.arrow"), writer_batch_size=1) as writer:
            for number in range(first, min(first + per_shard, count)):
                writer.write(sample(number))
            writer.finalize()


def datasets_open(folder: Path) -> Read:
    import datasets  # type: ignore[import-not-found]

    parts = [datasets.Dataset.from_file(str(file)) for file in sorted(folder.glob("*.arrow"))]
    return datasets.concatenate_datasets(parts).__getitem__


def litdata_write(folder: Path, count: int) -> None:
    import litdata  # type: ignore[import-not-found]

    litdata.optimize(sample, list(range(count)), output_dir=str(folder), chunk_bytes=SHARD_BYTES, num_workers=1)


def litdata_open(folder: Path) -> Read:
    import litdata  # type: ignore[import-not-found]

    return litdata.StreamingDataset(str(folder)).__getitem__


def mosaic_write(folder: Path, count: int) -> None:
    from streaming import MDSWriter  # type: ignore[import-not-found]

    columns = dict.fromkeys(COLUMNS, "bytes")
    with MDSWriter(out=str(folder), columns=columns, size_limit=SHARD_BYTES, hashes=["sha256"]) as writer:
        for number in range(count):
            writer.write(sample(number))


def mosaic_open(folder: Path) -> Read:
    from streaming import LocalDataset  # type: ignore[import-not-found]

    return LocalDataset(str(folder)).__getitem__


def arrow_write(folder: Path, count: int) -> None:
    import pyarrow as pa

    schema = pa.schema([(name, pa.binary()) for name in COLUMNS])
    per_shard = SHARD_BYTES // (LATENTS + EMBEDDING + FRAME)
    spans: list[tuple[str, int, int]] = []
    for first in range(0, count, per_shard):
        file = str(folder / f"{first:06d}.arrow")
        with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for number in range(first, min(first + per_shard, count)):
                batch = pa.record_batch([[value] for value in sample(number).values()], schema=schema)
                writer.write_batch(batch)
                size = pa.ipc.get_record_batch_size(batch)
                spans.append((file, sink.tell() - size, size))
    (folder / "spans.json").write_text(json.dumps(spans))


def arrow_open(folder: Path) -> Read:
    import pyarrow as pa

    schema = pa.schema([(name, pa.binary()) for name in COLUMNS])
    spans = json.loads((folder / "spans.json").read_text())
    files = {name: os.open(name, os.O_RDONLY) for name in {span[0] for span in spans}}

    def read(number: int) -> list[bytes]:
        name, begin, size = spans[number]
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(os.pread(files[name], size, begin)), schema)
        return [column[0].as_py() for column in batch.columns]

    return read


CANDIDATES: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], Read], tuple[str, ...]]] = {
    "wids": (wids_write, wids_open, ("webdataset",)),
    "datasets": (datasets_write, datasets_open, ("datasets", "pyarrow")),
    "litdata": (litdata_write, litdata_open, ("litdata",)),
    "mosaicml-streaming": (mosaic_write, mosaic_open, ("mosaicml-streaming",)),
    "pyarrow": (arrow_write, arrow_open, ("pyarrow",)),
}


def memory_mb() -> dict[str, float]:
    """Anonymous memory and mapped pages of files of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def measure(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Write and read with one candidate, in this process."""
    write, open_, packages = CANDIDATES[name]
    if not (folder / "done").exists():
        started = time.perf_counter()
        write(folder, count)
        (folder / "done").write_text(str(time.perf_counter() - started))
        return {}
    before = memory_mb()
    started = time.perf_counter()
    read = open_(folder)
    read(0)
    open_s = time.perf_counter() - started
    opened = memory_mb()
    order = np.random.default_rng(0).permutation(count)
    started = time.perf_counter()
    for number in order:
        read(int(number))
    read_s = time.perf_counter() - started
    after = memory_mb()
    return {
        "versions": {package: version(package) for package in packages},
        "write_clips_per_s": count / float((folder / "done").read_text()),
        "open_s": open_s,
        "read_clips_per_s": count / read_s,
        "open_mb": {key: opened[key] - before[key] for key in before},
        "read_mb": {key: after[key] - opened[key] for key in before},
        "processes_left": [child.name() for child in psutil.Process().children(recursive=True)],
    }


def candidate(name: str, python: str, count: int) -> dict[str, Any]:
    """Write in one process, read in another."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in ("write", "read"):
            command = [python, __file__, "--here", name, "--folder", folder, "--clips", str(count)]
            done = subprocess.run(command, capture_output=True, text=True)
            lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
            if done.returncode or not lines:
                return {"failed": (done.stderr or done.stdout).strip().splitlines()[-1:]}
        return json.loads(lines[0].removeprefix(MARK))


def pictures() -> list[dict[str, Any]]:
    """Bytes and times of lossless formats, per frame of 256x512 and 576x1024."""
    from PIL import Image

    from training.data.scenes import render_scene

    formats: dict[str, tuple[str, dict[str, Any]]] = {
        "png level 1": ("PNG", {"compress_level": 1}),
        "png level 6": ("PNG", {}),
        "webp lossless method 0": ("WEBP", {"lossless": True, "quality": 0, "method": 0}),
        "webp lossless method 2": ("WEBP", {"lossless": True, "quality": 25, "method": 2}),
        "webp lossless method 4": ("WEBP", {"lossless": True}),
    }
    rows = []
    for height, width in ((256, 512), (576, 1024)):
        scene = render_scene(7, 1, height, width, 24)[0]
        rng = np.random.default_rng(0)
        noisy = np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
        for kind, pixels in (("procedural", scene), ("with sensor noise", noisy)):
            for name, (form, options) in formats.items():
                Image.fromarray(pixels).save(io.BytesIO(), form, **options)  # warms up
                started, buffer = time.perf_counter(), io.BytesIO()
                Image.fromarray(pixels).save(buffer, form, **options)
                encoded = time.perf_counter()
                for _ in range(5):
                    again = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
                decode_ms = (time.perf_counter() - encoded) / 5 * 1e3
                assert np.array_equal(again, pixels)
                size = len(buffer.getvalue())
                rows.append(
                    {
                        "frame": f"{height}x{width} {kind}",
                        "format": name,
                        "share_of_raw": size / pixels.nbytes,
                        "encode_ms": (encoded - started) * 1e3,
                        "decode_ms": decode_ms,
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--python", action="append", default=[], help="NAME=PYTHON of a candidate")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(MARK + json.dumps(measure(arguments.here, arguments.folder, arguments.clips)))
        return
    from benchmarks.latency.machine import describe

    machine = describe()
    pythons = dict(item.split("=", 1) for item in arguments.python)
    results = {name: candidate(name, pythons.get(name, sys.executable), arguments.clips) for name in CANDIDATES}
    print(f"{'library':20s} {'write/s':>8s} {'open s':>7s} {'read/s':>8s} {'anon MB':>8s} {'mapped MB':>9s}")
    for name, row in results.items():
        if "failed" in row:
            print(f"{name:20s} failed: {row['failed']}")
            continue
        memory = [row["open_mb"][key] + row["read_mb"][key] for key in ("RssAnon", "RssFile")]
        figures = f"{row['write_clips_per_s']:8.0f} {row['open_s']:7.2f} {row['read_clips_per_s']:8.0f}"
        print(f"{name:20s} {figures} {memory[0]:8.1f} {memory[1]:9.1f}")
    formats = pictures()
    for row in formats:
        times = f"encode {row['encode_ms']:7.1f} ms, decode {row['decode_ms']:6.1f} ms"
        print(f"{row['frame']:28s} {row['format']:24s} {row['share_of_raw']:.3f} of raw, {times}")
    now = datetime.now(UTC)
    record = {
        "created": now.isoformat(timespec="seconds"),
        "machine": machine,
        "clips": arguments.clips,
        "sample_bytes": LATENTS + EMBEDDING + FRAME,
        "shard_bytes": SHARD_BYTES,
        "libraries": results,
        "pictures": formats,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"store_choice-{now:%Y-%m-%d}.json"
    file.write_text(json.dumps(record, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main()
