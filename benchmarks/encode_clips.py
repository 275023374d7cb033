"""Clips per second of encoding: the store's way, by one process and by two, against decoding and encoding in turn.

    python benchmarks/encode_clips.py [--clips 240] [--repeats 3]

Videos of 640x360 are decoded, as real ones are. Codecs: the tiny one at 64x128, and one of SVD's form (VAE with temporal
decoder and CLIP, small and random) at 128x256. The ways, interleaved, each in processes of its own, timed without imports:

- serial: decode, then encode, in turn, in one process: what `mobilevd cache` did before.
- store: as `mobilevd cache` does it, in one process, with a worker that decodes.
- store, 2 processes: without workers.

Torch computes with one thread in every process, so that two ways differ in what runs side by side and in nothing else.

The times are of whole stores, with checksums and what is flushed to the disk.
"""

from __future__ import annotations

import argparse
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

import numpy as np
import torch
from accelerate import PartialState

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.latency.machine import describe  # noqa: E402
from mobilevd.codecs import load_codec  # noqa: E402
from mobilevd.codecs.base import Codec  # noqa: E402
from mobilevd.pixels import to_float  # noqa: E402
from training.data.clips import Clip  # noqa: E402
from training.data.store.groups import ClipGroup, ClipSet  # noqa: E402
from training.data.store.place import place_at  # noqa: E402
from training.data.store.plan import WriteSettings  # noqa: E402
from training.data.store.write import write_store  # noqa: E402
from training.data.video import read_clip, write_video  # noqa: E402
from training.data.videos import Video  # noqa: E402

FRAMES, FPS, VIDEOS = 14, 7.0, 8
SOURCE_FPS, SOURCE_FRAMES = 24, 84  # 3.5 s
SIZES = {"tiny": (64, 128), "svd": (128, 256)}
WAYS = ("serial", "store", "store, 2 processes")
BATCH = 32  # frames that were encoded together
MARK = "seconds: "


def codec_of(kind: str) -> Codec:
    """The tiny codec, or a small random one of SVD's form."""
    if kind == "tiny":
        return load_codec(ROOT / "assets" / "tiny" / "codec")
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    from mobilevd.codecs.svd import SVDCodec

    torch.manual_seed(0)
    levels: Any = {"down_block_types": ("DownEncoderBlock2D",) * 4, "block_out_channels": (32, 64, 64, 64)}
    vae = AutoencoderKLTemporalDecoder(**levels, layers_per_block=1)
    clip = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=1024,
        image_size=224,
    )
    codec = SVDCodec(vae, CLIPVisionModelWithProjection(clip), CLIPImageProcessor())
    return codec.requires_grad_(False).eval()


def clips_of(folder: Path, kind: str, count: int) -> ClipSet:
    """So many clips of the videos, spread over their lengths."""
    files = sorted(folder.glob("*.mp4"))
    room_s = (SOURCE_FRAMES - 1) / SOURCE_FPS - (FRAMES - 1) / FPS
    each = -(-count // len(files))
    clips = [Clip(Video(file.name, file), room_s * k / each) for file in files for k in range(each)][:count]
    return ClipSet([ClipGroup(*SIZES[kind], clips, [127.0] * count)], FRAMES, FPS)


@torch.no_grad()
def encode_serially(clips: ClipSet, codec: Codec) -> None:
    """Decode some clips and encode them, in turn."""
    (group,) = clips.groups
    together = max(1, BATCH // FRAMES)
    for begin in range(0, len(group.clips), together):
        part = group.clips[begin : begin + together]
        pixels = [read_clip(c.video, FRAMES, FPS, c.start_s, group.height, group.width) for c in part]
        frames = to_float(torch.from_numpy(np.stack(pixels)).permute(0, 1, 4, 2, 3))
        torch.cat([codec.encode(piece) for piece in frames.flatten(0, 1).split(BATCH)])
        codec.embed_image(frames[:, 0])


def measure(way: str, kind: str, folder: Path, count: int) -> None:
    """One way in this process, or in this one of two."""
    processes = PartialState(cpu=True)
    codec, clips = codec_of(kind), clips_of(folder, kind, count)
    workers = 0 if processes.num_processes > 1 else 1
    shard_mb = 1  # a few clips, so that both processes have some
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = place_at(folder / "store" if processes.num_processes > 1 else made)
        processes.wait_for_everyone()
        started = time.perf_counter()
        if way == "serial":
            encode_serially(clips, codec)
        else:
            write_store(place, clips, codec, WriteSettings(shard_mb, workers), processes)
        seconds = time.perf_counter() - started
    if processes.is_main_process:
        print(f"{MARK}{seconds}", flush=True)


def run(way: str, kind: str, folder: Path, count: int) -> float:
    """Seconds of one way, in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if way == WAYS[2] else []
    arguments = ["--way", way, "--codec", kind, "--folder", str(folder), "--clips", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(["rm", "-rf", str(folder / "store")], check=True)
    done = subprocess.run(
        [sys.executable, *launcher, __file__, *arguments], env=environment, capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        raise SystemExit(done.stderr[-2000:])
    return float(lines[0].removeprefix(MARK))


def write_sources(folder: Path) -> None:
    """Videos of moving noise on large shapes: as hard to decode as a camera's."""
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (18, 64, 3)).astype(np.float32)
    base = torch.nn.functional.interpolate(torch.from_numpy(large).permute(2, 0, 1)[None], (360, 1280), mode="bilinear")
    still = base[0].permute(1, 2, 0).numpy()
    for number in range(VIDEOS):
        grain = rng.normal(0, 6, (360, 640, 3)).astype(np.float32)
        lefts = [number * 40 + 4 * k for k in range(SOURCE_FRAMES)]
        frames = [np.clip(still[:, left : left + 640] + grain, 0, 255).astype(np.uint8) for left in lefts]
        write_video(folder / f"{number}.mp4", np.stack(frames), SOURCE_FPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--codec", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.codec, arguments.folder, arguments.clips)
        return
    rows: dict[str, dict[str, list[float]]] = {kind: {way: [] for way in WAYS} for kind in SIZES}
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        for _ in range(arguments.repeats):
            for kind, ways in rows.items():
                for way, rates in ways.items():
                    rates.append(arguments.clips / run(way, kind, Path(folder), arguments.clips))
                    print(f"{kind:5s} {way:20s} {rates[-1]:6.2f} clips/s", flush=True)
    figures: dict[str, Any] = {}
    for kind, ways in rows.items():
        medians = {way: statistics.median(rates) for way, rates in ways.items()}
        figures[kind] = {"size": SIZES[kind], "clips_per_s": ways, "median": medians}
        print(kind, ", ".join(f"{way} {rate:.2f} ({rate / medians['serial']:.2f}x)" for way, rate in medians.items()))
    now = datetime.now(UTC)
    record = {
        "created": now.isoformat(timespec="seconds"),
        "machine": machine,
        "load_after": list(os.getloadavg()),
        "torch": torch.__version__,
        "clips": arguments.clips,
        "source": f"{VIDEOS} videos of 640x360, {SOURCE_FRAMES} frames",
        "codecs": figures,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"encode_clips-{now:%Y-%m-%d}.json"
    file.write_text(json.dumps(record, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main()
