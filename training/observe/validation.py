"""Validation while a stage trains: clips from the averaged weights, always from the same first frames and noise.

All processes generate, in rounds of a batch each; batches are the same whatever the number of processes, and so are clips
and figures. The main process writes `validation/step-000500.mp4`, a contact sheet beside it and, while temporal blocks are
pruned, the map of their gates. All of them are kept: a validation of 16 clips of 512x256 takes about 3 MB.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from eval.features import FeatureExtractor
from eval.figures import combine_figures
from eval.interval import distance_interval
from eval.samples import write_contact_sheet
from eval.summary import ClipSummary, summarize
from mobilevd.codecs.base import Codec
from mobilevd.collective import from_first, gather
from mobilevd.config.data import DataSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.diffusion.animate import animate, make_sampler
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pixels import resize_frames
from training.data.video import write_video
from training.observe.gate_map import describe_gates, final_gates, gates_of, importance_of, write_gate_map
from training.observe.report import Observer, ShownClips, Validation

FOLDER = "validation"
NUM_STEPS = 8  # Euler steps of a stage that is sampled in many: enough to compare checkpoints, a third of the time
BATCHES = 8  # that the clips are divided into: a share for each of 8 GPUs
SHEET_CLIPS, SHEET_WIDTH = 4, 160  # clips on the sheet, and the width in pixels from which they are not enlarged


@dataclass(frozen=True)
class ValidationSettings:
    """Settings of a stage's validations.

    Attributes:
        folder: the stage's folder.
        title: the stage's name, in pictures.
        data, diffusion: of the run.
        one_step: sampled in one evaluation, else in at most 8 Euler steps.
        height, width: size at which clips are compared, in pixels.
        seed: of the noise; clip i has seed + i.
        mixed_precision: precision of the model's passes, the training's.
        batch_size: clips that a process generates at a time, at most.
        keep: temporal blocks that pruning will keep; None outside of it.
    """

    folder: Path
    title: str
    data: DataSettings
    diffusion: DiffusionSettings
    one_step: bool
    height: int
    width: int
    seed: int = 0
    mixed_precision: str = "no"
    batch_size: int = 4
    keep: int | None = None


class StageValidator:
    """A `training.observe.report.Validator`; every process has one.

    Args:
        settings: the stage's.
        first_frames: held-out first frames to animate, uint8 (N, H, W, 3) at the stage's size.
        reference: summary of real clips at the settings' size, with the extractor's features.
        observer: told of every validation by the main process; None: nobody.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        first_frames: np.ndarray,
        reference: ClipSummary,
        extractor: FeatureExtractor,
        codec: Codec,
        processes: PartialState,
        observer: Observer | None = None,
    ) -> None:
        self.settings, self.first_frames, self.reference = settings, first_frames, reference
        self.extractor, self.codec, self.processes, self.observer = extractor, codec, processes, observer

    @torch.no_grad()
    def __call__(self, step: int, unet: SpatioTemporalUNet) -> Validation:
        """Generate, compare, write and tell. All processes call it together, as a sharded model needs all of them."""
        started = time.perf_counter()
        importance = importance_of(unet)
        with final_gates(unet, importance, self.settings.keep), self._full_precision():
            clips = self._generate(unet)
        seconds = time.perf_counter() - started
        figures = from_first(self.processes, lambda: {**self._figures(clips), "seconds": seconds})
        shown: list[ShownClips] = []

        def tell() -> None:
            shown.append(self._write(step, clips, unet, importance))
            if self.observer is not None:
                self.observer.validated(step, figures, shown[0])

        from_first(self.processes, tell)
        return Validation(figures, shown[0] if shown else None)

    def _full_precision(self) -> torch.autocast:
        """Off with an autocast around the validation: the codec is not for half precision, and asks for none."""
        device = self.processes.device or torch.device("cpu")
        return torch.autocast(device.type, enabled=False)

    def _generate(self, unet: SpatioTemporalUNet) -> np.ndarray:
        """All clips, uint8 (N, T, H, W, 3), in every process.

        A model in shards computes in all processes at once, so all take part in every round; whoever has no batch left
        makes another one once more. An error goes its own way, for that reason, and the launcher ends the others.
        """
        settings, count = self.settings, len(self.first_frames)
        sample = make_sampler(unet, settings.diffusion, settings.data.num_frames, settings.one_step, self._num_steps())
        size = min(settings.batch_size, max(1, math.ceil(count / BATCHES)))
        starts = list(range(0, count, size))
        parts: list[np.ndarray] = []
        for first in range(0, len(starts), self.processes.num_processes):
            start = starts[(first + self.processes.process_index) % len(starts)]
            frames = self.first_frames[start : start + size]
            seeds = [settings.seed + start + i for i in range(len(frames))]
            made = animate(
                sample, self.codec, frames, seeds, settings.data, settings.diffusion, settings.mixed_precision
            )
            parts += gather(self.processes, made)
        return np.concatenate(parts[: len(starts)])

    def _num_steps(self) -> int:
        return min(NUM_STEPS, self.settings.diffusion.num_steps)

    def _figures(self, clips: np.ndarray) -> dict[str, float]:
        small = resize_frames(clips, self.settings.height, self.settings.width)
        summary = summarize(small, self.extractor, what="generated clips")
        distance, low, high = distance_interval(summary.features, self.reference.features, ddof=self.extractor.ddof)
        interval = {"distance": distance, "distance_low": low, "distance_high": high}
        return {**interval, **combine_figures(summary.values, self.reference.values)}

    def _write(self, step: int, clips: np.ndarray, unet: SpatioTemporalUNet, importance: Tensor | None) -> ShownClips:
        folder, name = self.settings.folder / FOLDER, f"step-{step:06d}"
        video, sheet = folder / f"{name}.mp4", folder / f"{name}.png"
        wall, fps = clip_wall(clips), self.settings.data.fps
        write_video(video, wall, fps)
        rows = list(clips[:SHEET_CLIPS])
        scale = 3 if clips.shape[3] <= SHEET_WIDTH else 1
        write_contact_sheet(sheet, rows, [f"step {step}, {i + 1}" for i in range(len(rows))], scale)
        pictures, text = {}, ""
        if importance is not None and self.settings.keep is not None:
            gates = gates_of(unet, importance, self.settings.keep)
            pictures["gates"] = folder / f"{name}-gates.png"
            title = f"{self.settings.title}, step {step}: {self.settings.keep} of {len(gates)} temporal blocks stay"
            write_gate_map(pictures["gates"], gates, title)
            text = describe_gates(gates)
        return ShownClips(video, sheet, wall, fps, pictures, text)


def clip_wall(clips: np.ndarray) -> np.ndarray:
    """Clips (N, T, H, W, 3) as one, in a grid that is about as wide as high: (T, rows*H, columns*W, 3)."""
    count, frames, height, width, _ = clips.shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = math.ceil(count / columns)
    wall = np.zeros((frames, rows * height, columns * width, 3), np.uint8)
    for i, clip in enumerate(clips):
        top, left = i // columns * height, i % columns * width
        wall[:, top : top + height, left : left + width] = clip
    return wall
