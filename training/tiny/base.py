"""Make the tiny base that the repository ships: a small SVD-shaped UNet, trained on procedural scenes from scratch.

`python -m training.tiny.base --out assets/tiny/base` trains it (about three quarters of an hour on one core): first at
32x64 pixels, then at its own 48x96. The run of `configs/tiny.yaml` starts from it as a user's run starts from SVD.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mobilevd.codecs import load_codec
from mobilevd.codecs.base import Codec
from mobilevd.config.objectives import DenoiseSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.config.training import TrainingSettings
from mobilevd.files import atomic_write_json
from mobilevd.folder_lock import hold_folder
from mobilevd.model.checkpoint import MODEL_FILES, save_model_folder
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet
from mobilevd.pixels import to_float
from training.data.batch import BatchSource
from training.data.memory_store import MemoryStore
from training.data.scenes import render_scene
from training.loop import Trainer
from training.objectives.base import TrainingContext
from training.objectives.denoise import Denoise
from training.observe.report import Report
from training.tiny.output import check_option

NUM_FRAMES, FPS, MOTION_BUCKET = 8, 7, 127
FIRST_SCENE = 5_000_000  # seeds of the scenes trained on; a run's own scenes have other seeds
PHASES = ((32, 64, 2400), (48, 96, 1500))  # height, width, steps: small first, where a step costs less than half


def training_settings(steps: int, schedule: Literal["constant", "cosine"] = "constant") -> TrainingSettings:
    """Training settings of the base; the rest are a run's defaults."""
    return TrainingSettings(
        steps=steps,
        schedule=schedule,
        batch_size=8,
        learning_rate=6e-4,
        betas=(0.9, 0.99),
        ema_decay=0.998,
        mixed_precision="bf16",
        warmup_steps=100,
        log_every=50,
    )


def tiny_unet() -> SpatioTemporalUNet:
    """SVD's UNet with three levels of one layer each: 3.75 million parameters, 18 temporal blocks."""
    return SpatioTemporalUNet(
        sample_size=24,
        down_block_types=(CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN),
        up_block_types=(PLAIN_UP, CROSS_UP, CROSS_UP),
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        num_attention_heads=(1, 2, 3),
        cross_attention_dim=96,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=NUM_FRAMES,
    )


@torch.no_grad()
def encode_scenes(codec: Codec, count: int, first_seed: int, height: int, width: int) -> MemoryStore:
    """Draw and encode `count` scenes of NUM_FRAMES frames at FPS."""
    latents, first_frames, embeddings = [], [], []
    for seed in range(first_seed, first_seed + count):
        clip = render_scene(seed, NUM_FRAMES, height, width, FPS)
        frames = torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))  # (T, 3, H, W)
        pixels = to_float(frames)
        latents.append(codec.encode(pixels).half())
        first_frames.append(frames[0])
        embeddings.append(codec.embed_image(pixels[:1])[0])
    return MemoryStore(torch.stack(latents), torch.stack(first_frames), torch.stack(embeddings), MOTION_BUCKET)


def pretrain(out: Path, codec_folder: Path, work: Path, scenes: int, seed: int) -> None:
    """Train through PHASES and write `out` (a model folder, half precision); resumable, `work` holds the checkpoints."""
    torch.manual_seed(seed)
    codec, unet = load_codec(codec_folder), tiny_unet()
    for number, (height, width, steps) in enumerate(PHASES):
        last = number == len(PHASES) - 1
        settings = training_settings(steps, "cosine" if last else "constant")
        data = encode_scenes(codec, scenes, FIRST_SCENE, height, width)
        source = BatchSource(data, codec, FPS, torch.device("cpu"), settings.batch_size, seed)
        objective = Denoise(DenoiseSettings(), TrainingContext(DiffusionSettings(), codec.embedding_dim))
        trainer = Trainer(
            unet, objective, (), source, settings, work / f"phase-{number}", seed, [height, width, scenes]
        )
        started = time.time()

        def show(report: Report, started: float = started, height: int = height) -> None:
            minutes = (time.time() - started) / 60
            print(
                f"{height} px  step {report.step}/{report.steps}  loss {report.figures['loss']:.4f}  {minutes:.1f} min",
                flush=True,
            )

        unet = trainer.run(show)
        save_model_folder(unet, work / f"phase-{number}" / "model")
    save_model_folder(unet.half(), out)
    settings = training_settings(sum(steps for _, _, steps in PHASES)).model_dump(mode="json")
    atomic_write_json(
        out / "training.json",
        {"command": "python -m training.tiny.base", "phases": PHASES, "scenes": scenes, "seed": seed, **settings},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/tiny/base"))
    parser.add_argument("--codec", type=Path, default=Path("assets/tiny/codec"))
    parser.add_argument("--work", type=Path, default=Path("runs/tiny-base"))
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    check_option(parser, arguments.out, MODEL_FILES, [arguments.codec])
    torch.set_num_threads(arguments.threads)
    with hold_folder(arguments.work):
        pretrain(arguments.out, arguments.codec, arguments.work, arguments.scenes, arguments.seed)


if __name__ == "__main__":
    main()
