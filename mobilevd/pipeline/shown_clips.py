"""The clips of a row that people look at, each a video of its own: generated, real, and made by the exported program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from device_runner.bundle.manifest import MANIFEST, Manifest
from device_runner.bundle.whole_path import UNET
from export.targets import parse_target
from export.targets.base import Target
from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.diffusion.animate import Sampler, animate
from mobilevd.diffusion.preconditioning import Conditions
from mobilevd.files import atomic_write_json, sha256_file
from mobilevd.json_files import read_json
from mobilevd.pipeline.data import RunClips, spread
from mobilevd.pipeline.held_out import read_first_frame
from mobilevd.pipeline.rows import Entry
from mobilevd.report.clip_files import FOLDER, GENERATED, PROGRAM, REAL, clip_file, shown_files
from training.data.video import write_video

PROGRAM_NOTE = "program.json"
"""File beside the clips: SHA-256 of the manifest of the bundle whose program made them."""
SHOWN_WIDTH = 256
"""Pixels that a smaller clip is enlarged to, by whole factors: video halves the resolution of colours."""


def clear_shown(folder: Path) -> None:
    """Remove the clips of an earlier evaluation from the folder of a row, those of its program too."""
    for kind in (GENERATED, REAL, PROGRAM):
        for file in shown_files(folder, kind):
            file.unlink()


def write_shown(folder: Path, kind: str, clips: np.ndarray, fps: float) -> None:
    """Write clips, uint8 (N, T, H, W, 3), into the folder of a row."""
    factor = max(1, SHOWN_WIDTH // clips.shape[3])
    for i, clip in enumerate(clips):
        large = clip.repeat(factor, axis=1).repeat(factor, axis=2)
        write_video(clip_file(folder, kind, i + 1), large, fps)


def program_sampler(target: Target, file: Path) -> Sampler:
    """A sampler that runs an exported program, one clip after the other (programs have batch size 1)."""

    def sample(noise: Tensor, conditions: Conditions) -> Tensor:
        latents = [
            target.run(file, [noise[i], conditions.image_latents[i : i + 1], conditions.image_embedding[i : i + 1]])[0]
            for i in range(len(noise))
        ]
        return torch.stack(latents).to(noise)

    return sample


def write_program_clips(
    config: RunConfig, entry: Entry, bundle: Path, manifest: Manifest, codec: Codec, clips: RunClips
) -> None:
    """Let a row's exported program make the clips that its model is shown by, unless they are there and are its own.

    Of a row in several steps there are none, for the program is one step of it; nor where the program cannot run here.
    """
    target, _ = parse_target(f"{manifest.target}:{manifest.precision}")
    note, program = entry.folder / FOLDER / PROGRAM_NOTE, {"manifest": sha256_file(bundle / MANIFEST)}
    if shown_files(entry.folder, PROGRAM) and note.is_file() and read_json(note) == program:
        return
    for file in shown_files(entry.folder, PROGRAM):  # of another program that was here before
        file.unlink()
    if not entry.one_step or target.not_executed is not None:
        return
    evaluation = config.evaluation
    chosen = spread(clips.test.clips, evaluation.clips)[: evaluation.sheet_clips]
    frames = np.stack([read_first_frame(config, clip, entry.height, entry.width) for clip in chosen])
    seeds = [evaluation.seed + i for i in range(len(chosen))]
    sample = program_sampler(target, bundle / manifest.programs[UNET].file)
    made = animate(sample, codec, frames, seeds, config.data, config.diffusion)
    write_shown(entry.folder, PROGRAM, made, config.data.fps)
    atomic_write_json(note, program)
