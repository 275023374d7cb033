"""Train the tiny codec on procedural scenes: `python -m training.tiny.codec --out assets/tiny/codec --seed 0`.

The autoencoder learns to reconstruct frames from latents that carry a little noise, so that its decoder tolerates the
errors of a diffusion model and the information is spread over all channels.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from mobilevd.codecs.tiny import TINY_CODEC_FILES, TinyCodec
from mobilevd.pixels import to_float
from training.data.scenes import render_scene
from training.tiny.output import check_option

SIZES = ((64, 128), (32, 64))  # height, width: before and after the tiny configuration's resolution stage
# AutoencoderTiny's decoder bends its input by 3 tanh(x / 3): three deviations of this stay in its straight
# part.
TARGET_STD = 0.5
# In deviations of the latents. Held-out scenes at 64x128: 35.8 dB without noise, 35.4 with it, 33.2 with three times as
# much.
LATENT_NOISE = 0.1
HELD_OUT = 1_000_000_000  # scenes with seeds from here on are never trained on
TIMES = 2  # frames taken from one scene, one second apart, so that everything has moved


def scene_frames(seeds: Sequence[int], height: int, width: int, times: int = TIMES) -> torch.Tensor:
    """Frames of the scenes with these seeds, `times` of each, a second apart: uint8 (N * times, 3, H, W)."""
    clips = np.stack([render_scene(seed, times, height, width, fps=1.0) for seed in seeds])  # (N, t, H, W, 3)
    return torch.from_numpy(clips).flatten(0, 1).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def reconstruction_psnr_db(codec: TinyCodec, frames: torch.Tensor) -> float:
    """PSNR in dB, peak 255, of float frames (N, 3, H, W) in [-1, 1] after encoding and decoding."""
    decoded = codec.decode(codec.encode(frames).unsqueeze(0))[0]
    return 10 * math.log10(4 / (decoded - frames).square().mean().item())  # peak to peak 2, squared: 4


@torch.no_grad()
def measure_latents(codec: TinyCodec, frames: Sequence[torch.Tensor]) -> None:
    """Set scaling_factor and shift so that the latents of `frames` have mean 0 and variance 1.

    `frames` holds one tensor (N, 3, H, W) per size; the variance is 1 on the average of the channels.
    """
    pooled = torch.cat([codec.encode_condition(part).transpose(0, 1).flatten(1) for part in frames], dim=1)
    shift = pooled.mean(1)  # (C,)
    variance = pooled.var(1).mean()
    codec.set_latent_statistics(1 / variance.sqrt().item(), shift.tolist())


def _loss(codec: TinyCodec, frames: torch.Tensor) -> torch.Tensor:
    latents = codec.encode_condition(frames)  # (N, C, h, w)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))  # (C,)
    spread = mean.square().mean() + (std / TARGET_STD).log().square().mean()
    noisy = latents + LATENT_NOISE * TARGET_STD * torch.randn_like(latents)
    error = codec.vae.decoder(noisy) - frames
    return error.abs().mean() + 2 * error.square().mean() + 0.1 * spread


def train_tiny_codec(
    seed: int = 0,
    steps: int = 1900,
    batch: int = 16,
    learning_rate: float = 3e-3,
    num_scenes: int = 2000,
    sizes: Sequence[tuple[int, int]] = SIZES,
    codec: TinyCodec | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> TinyCodec:
    """Train a tiny codec on `num_scenes` rendered scenes, the sizes in turn (smaller ones twice as often).

    `progress(step, steps, loss)` is called after every step. Returns the codec frozen, in evaluation mode,
    with its scaling factor and shift measured on the training frames. The same seed on the same machine gives
    the same weights.
    """
    torch.manual_seed(seed)
    codec = (codec or TinyCodec()).train()
    seeds = range(seed * num_scenes, (seed + 1) * num_scenes)
    pools = [scene_frames(seeds, height, width) for height, width in sizes]
    turns = [0] + [i for i in range(1, len(sizes)) for _ in range(2)]  # a smaller picture costs a quarter
    optimizer = torch.optim.AdamW(codec.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        pool = pools[turns[step % len(turns)]]
        chosen = torch.randint(len(pool), (batch,))
        loss = _loss(codec, to_float(pool[chosen]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps, loss.item())
    codec.requires_grad_(False).eval()
    measure_latents(codec, [to_float(pool[:512]) for pool in pools])
    return codec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the codec to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    check_option(parser, arguments.out, TINY_CODEC_FILES)
    torch.set_num_threads(arguments.threads)
    started = time.monotonic()

    def report(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {loss:.4f}  {time.monotonic() - started:.0f} s", flush=True)

    codec = train_tiny_codec(arguments.seed, arguments.steps, progress=report)
    codec.save_pretrained(arguments.out)
    for height, width in SIZES:
        frames = to_float(scene_frames(range(HELD_OUT, HELD_OUT + 64), height, width))
        latents = codec.encode(frames)
        print(
            f"{height}x{width}: held-out PSNR {reconstruction_psnr_db(codec, frames):.2f} dB, latent mean "
            f"{[round(v, 2) for v in latents.mean((0, 2, 3)).tolist()]}, deviation "
            f"{[round(v, 2) for v in latents.std((0, 2, 3)).tolist()]}"
        )
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
