"""Memory of encoding at SVD's size: the peak that is counted on tensors without data, beside the real one.

    python benchmarks/encode_memory.py [--sizes 256x512 576x1024]

The encoder of SVD's VAE (34 M parameters) with random weights, in float32 on the CPU, one piece of frames at each size;
each in a process of its own. 576x1024 takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.latency.machine import describe  # noqa: E402
from mobilevd.codecs.base import Codec  # noqa: E402
from training.data.store.decoding import WINDOW_BYTES  # noqa: E402
from training.data.store.pieces import Encoder, frame_bytes  # noqa: E402

MARK = "result: "


class VaeEncoder(Codec):
    """The encoder of SVD's VAE, and a mean in place of CLIP."""

    name, latent_channels, spatial_factor, scaling_factor, embedding_dim = "svd", 4, 8, 0.18215, 4

    def __init__(self) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

        super().__init__()
        form: Any = {"down_block_types": ("DownEncoderBlock2D",) * 4, "block_out_channels": (128, 256, 512, 512)}
        self.vae: Any = AutoencoderKLTemporalDecoder(**form, layers_per_block=2)
        self.vae.decoder = None

    def encode_condition(self, image: Tensor) -> Tensor:
        return self.vae.encode(image).latent_dist.mode()

    def encode(self, frames: Tensor) -> Tensor:
        return self.encode_condition(frames) * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        raise TypeError("only encoding is measured")

    def embed_image(self, image: Tensor) -> Tensor:
        return image.mean((1, 2, 3))[:, None, None].expand(-1, 1, self.embedding_dim)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(height: int, width: int) -> dict[str, Any]:
    """Encode one piece of frames in this process."""
    codec = VaeEncoder().eval().requires_grad_(False)
    counted = frame_bytes(codec, height, width, "fp32")
    frames = Encoder(codec, height, width, 14, "fp32").frames
    encoder = Encoder(codec, height, width, frames, "fp32")
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    encoder.encode([np.zeros((frames, height, width, 3), np.uint8)])
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {
        "size": f"{height}x{width}",
        "frames_together": frames,
        "counted_mb": frames * counted / 2**20,
        "peak_mb": (peak - before) / 2**20,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256x512", "576x1024"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        height, width = map(int, arguments.here.split("x"))
        print(MARK + json.dumps(measure(height, width)))
        return
    rows = []
    for size in arguments.sizes:
        done = subprocess.run([sys.executable, __file__, "--here", size], capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
        if not lines:
            raise SystemExit(done.stderr[-2000:])
        rows.append(json.loads(lines[0].removeprefix(MARK)))
        row = rows[-1]
        print(
            f"{size}: {row['frames_together']} frames together, {row['counted_mb']:.0f} MB counted, "
            f"{row['peak_mb']:.0f} MB at the peak; decoded clips that wait take {WINDOW_BYTES >> 20} MB at the most",
            flush=True,
        )
    now = datetime.now(UTC)
    record = {
        "created": now.isoformat(timespec="seconds"),
        "machine": describe(),
        "torch": torch.__version__,
        "waiting_clips_mb": WINDOW_BYTES >> 20,
        "rows": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"encode_memory-{now:%Y-%m-%d}.json"
    file.write_text(json.dumps(record, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main()
