"""How long a run will take and how much it will write, told before it starts: counted operations over a measured rate.

The rate is that of matrix products on this very machine, times the share of it that models of this kind reach. It is an
estimate of a machine that does nothing else: the first steps of a training tell better.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eval.figures import significant, with_prefix
from mobilevd.config.schema import RunConfig
from mobilevd.diffusion.sampling import frame_guidance, function_evaluations
from mobilevd.errors import UserError
from mobilevd.model.flops import FlopCount, count_flops
from mobilevd.pipeline.export_choices import export_choices
from mobilevd.pipeline.rows import Entry
from mobilevd.places import existing_folder
from training.observe.step_flops import forward_flops, step_flops
from training.plan.codec import count_codec
from training.plan.fit import run_of
from training.plan.stages import ClipSize, PlannedRun, PlannedStage, key_of

REACHED = (0.1, 0.45)
"""Shares of the rate of matrix products that runs reached: the stages of a tiny run 0.06 to 0.5, the whole of it 0.13, a
training of 70 million parameters 0.2; on processors with and without AVX-512."""
MEASURED_S = 0.3
ROW_S, STAGE_S, SCENE_S = 2.0, 3.0, 0.2
"""Seconds that do not depend on the model: of a row's loading, judging and writing, of a training's start and end, and of a
procedural video. They are the least; twice as much is the most."""
EXPORT_S = 10.0
"""Seconds of lowering, proving and measuring a program of the smallest size; it grows with the parameters."""
EXPORT_S_PER_GB = 60.0
EXPORT_BYTES = {"fp32": 4.0, "fp16": 2.0}
OTHER_PRECISIONS_BYTES = 1.2
"""Bytes of a program's number in precisions of 8 and 4 bits, with what stays higher."""
FRAME_SHARE = 0.6
"""Bytes of a stored first frame over its pixels."""


@dataclass(frozen=True)
class RowEstimate:
    """What a row needs: operations of its training and its evaluation, and seconds of all that does not depend on them."""

    name: str
    training_flops: float
    evaluation_flops: float
    fixed_s: float

    def seconds(self, rate: float) -> tuple[float, float]:
        """The shortest and the longest time at a rate of matrix products in FLOP/s."""
        flops, (low, high) = self.training_flops + self.evaluation_flops, REACHED
        return self.fixed_s + flops / (rate * high), 2 * self.fixed_s + flops / (rate * low)


@dataclass(frozen=True)
class Estimate:
    """What a run needs beside what is done.

    Attributes:
        flops: operations that are left.
        rate: FLOP/s of matrix products that the seconds are reckoned with.
        shortest_s, longest_s: seconds.
        disk_bytes: of models, programs, checkpoints and known clips.
        bytes_per_clip: of every clip of the user's videos, whose number is not known before they are read.
        rows: what is left of each row.
    """

    flops: float
    rate: float
    shortest_s: float
    longest_s: float
    disk_bytes: int
    bytes_per_clip: int
    rows: tuple[RowEstimate, ...] = ()


def estimate_run(
    config: RunConfig, entries: Sequence[Entry], processes: int = 1, removed: Sequence[Entry] = ()
) -> Estimate:
    """Estimate what is left of a run: finished stages cost nothing more, but for those that will be removed."""
    run = run_of(config)
    left = [entry for entry in entries if entry in removed or not (entry.folder / "metrics.json").is_file()]
    untrained = [entry for entry in left if entry in removed or not entry.is_trained]
    trained = [run.stage(entry.name) for entry in untrained if entry.stage is not None]
    keeps = config.data.latents == "cached"
    exported = [entry for entry in left if entry.exported and _is_exported(config, entry, entries)]
    weights = [_parameters(run, entry) for entry in left]
    programs = [_parameters(run, entry) for entry in exported]
    rows = tuple(_row(run, entry, entry in untrained, entry in exported) for entry in left)
    rows += tuple(_encoding(run, planned) for planned in _first_of_each_size(trained)) if keeps else ()
    rate = machine_rate(config.training.num_threads, processes)
    precisions = [choice.precision for choice in export_choices(config.export)]
    each = sum(EXPORT_BYTES.get(precision, OTHER_PRECISIONS_BYTES) for precision in precisions)
    clip_bytes = max((_clip_bytes(run, planned) for planned in trained if planned.trains), default=0)
    sizes = len(_first_of_each_size(trained))
    known = _known_clips(config)
    disk = (
        4 * sum(weights) + each * sum(programs) + _checkpoint_bytes(run, trained) + keeps * known * clip_bytes * sizes
    )
    disk = max(0, disk - sum(_size_of(entry.folder) for entry in removed))  # their room is free again
    per_clip = 0 if known or not keeps else clip_bytes * sizes
    shortest, longest = (
        (sum(each) for each in zip(*(row.seconds(rate) for row in rows), strict=True)) if rows else (0, 0)
    )
    drawn = _drawn_s(config) if left else 0.0
    flops = sum(row.training_flops + row.evaluation_flops for row in rows)
    return Estimate(flops, rate, drawn + shortest, 2 * drawn + longest, math.ceil(disk), per_clip, rows)


def _row(run: PlannedRun, entry: Entry, is_trained: bool, is_exported: bool) -> RowEstimate:
    """What a row needs; `is_trained` is true if its stage is still to be made."""
    planned = run.stage(entry.name) if entry.stage is not None and is_trained else None
    trains = planned is not None and planned.trains
    fixed = ROW_S + (STAGE_S if trains else 0.0)
    if is_exported:
        export_s = EXPORT_S + EXPORT_S_PER_GB * _parameters(run, entry) * 4 / 1e9
        fixed += export_s * (1 + len(run.config.export.also))
    training = _training_flops(run, planned) if planned is not None and trains else 0.0
    return RowEstimate(entry.label, training, _evaluation_flops(run, entry), fixed)


def _first_of_each_size(trained: Sequence[PlannedStage]) -> list[PlannedStage]:
    """The stages that clips are encoded for: the first of each size that trains."""
    return list({planned.clip: planned for planned in reversed(trained) if planned.trains}.values())


def _known_clips(config: RunConfig) -> int:
    """The number of training clips; 0 for own videos, which are counted when they are read."""
    return config.data.scenes.train * config.data.clips_per_video if config.data.videos is None else 0


def _encoding(run: PlannedRun, planned: PlannedStage) -> RowEstimate:
    """The encoding of the clips of a size, as many as are known to be."""
    clips, limit = _known_clips(run.config), planned.stage.training.latent_clips
    if limit is not None:
        clips = min(limit, clips or limit)
    each = count_codec(run.codec, planned.clip, 1, False, False, clips=True).encode_flops
    return RowEstimate(f"encoding clips at {planned.clip.height}x{planned.clip.width}", 0.0, clips * each, 0.0)


def _drawn_s(config: RunConfig) -> float:
    """Seconds that procedural videos take, if they are not there."""
    if config.data.videos is not None or (config.output / "data").is_dir():
        return 0.0
    return SCENE_S * (config.data.scenes.train + config.data.scenes.test)


def describe_estimate(estimate: Estimate) -> str:
    """The estimate in a line."""
    if not estimate.longest_s and not estimate.disk_bytes:
        return "estimate: nothing is left to make"
    per_clip = f", and {_size(1000 * estimate.bytes_per_clip)} for each 1000 clips" if estimate.bytes_per_clip else ""
    return (
        f"estimate: {_range(estimate.shortest_s, estimate.longest_s)} if nothing else runs here "
        f"({with_prefix(estimate.flops)}FLOP; matrix products take {with_prefix(estimate.rate)}FLOP/s), "
        f"{_size(estimate.disk_bytes)} of disk{per_clip}"
    )


def describe_rows(estimate: Estimate) -> list[str]:
    """A line for each row that takes a second or more: its time, and what of it is training."""
    lines = []
    for row in (row for row in estimate.rows if row.seconds(estimate.rate)[1] >= 1):
        trained = f", {with_prefix(row.training_flops)}FLOP of training" if row.training_flops else ""
        lines.append(f"{row.name}: {_range(*row.seconds(estimate.rate))}{trained}")
    return lines


def check_disk(config: RunConfig, estimate: Estimate) -> None:
    """Raise UserError if the disk of the run's folder has less room than the run will need."""
    free = shutil.disk_usage(existing_folder(config.output)).free
    if free < estimate.disk_bytes:
        raise UserError(
            f"{config.output}: the run needs about {_size(estimate.disk_bytes)} there and {_size(free)} are free; free "
            "some space, or give output=FOLDER on another disk"
        )


def machine_rate(threads: int | None = None, processes: int = 1) -> float:
    """FLOP/s of matrix products of all processes on this machine: those of a GPU each, or of the cores that they share."""
    if torch.cuda.is_available():
        return matmul_rate("cuda") * processes
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return matmul_rate() * min((threads or cores) * processes, cores)


def matmul_rate(device: str = "cpu", seconds: float = MEASURED_S) -> float:
    """FLOP/s of matrix products: of a core in float32, of a GPU in bfloat16; the quickest of many.

    One core and small products find a moment in which nothing else runs, on a busy machine too; all cores at once do not.
    """
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left, right = torch.ones(2, size, size, device=device, dtype=dtype)
        best, started = math.inf, time.perf_counter()
        while time.perf_counter() - started < seconds or math.isinf(best):
            begun = time.perf_counter()
            product = left @ right
            product[0, 0].item()  # waits for a GPU
            best = min(best, time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return 2.0 * size**3 / best


def _training_flops(run: PlannedRun, planned: PlannedStage) -> float:
    settings, objective = planned.stage.training, planned.stage.objective
    latents = planned.clip.frames, *run.codec.latent_size(planned.clip.height, planned.clip.width)
    parts = forward_flops(planned.trained, latents, objective, None, planned.multi_step, planned.teacher)
    each = step_flops(objective, parts, settings.gradient_checkpointing)
    return each.total * settings.batch_size * settings.steps


def _evaluation_flops(run: PlannedRun, entry: Entry) -> float:
    """Generating and decoding a row's clips."""
    diffusion, data, evaluation = run.config.diffusion, run.config.data, run.config.evaluation
    guidance = frame_guidance(data.num_frames, diffusion.guidance_min, diffusion.guidance_max)
    nfe = 1 if entry.one_step else function_evaluations(diffusion.num_steps, guidance)
    clip = ClipSize(data.num_frames, entry.height, entry.width)
    decoding = count_codec(run.codec, clip, 1, False, False, clips=True).decode_flops
    each = nfe * _count(run, _config_of(run, entry), entry.height, entry.width).flops + decoding
    return each * evaluation.clips * evaluation.seeds


def _config_of(run: PlannedRun, entry: Entry) -> dict[str, Any]:
    return run.base if entry.stage is None else run.stage(entry.name).finished


def _parameters(run: PlannedRun, entry: Entry) -> int:
    return _count(run, _config_of(run, entry), entry.height, entry.width).parameters


def _count(run: PlannedRun, config: dict[str, Any], height: int, width: int) -> FlopCount:
    """Parameters and FLOPs of a UNet, counted once."""
    key = key_of(config, height, width, run.config.data.num_frames)
    if key not in _counted:
        _counted[key] = count_flops(config, run.config.data.num_frames, *run.codec.latent_size(height, width))
    return _counted[key]


_counted: dict[str, FlopCount] = {}


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _is_exported(config: RunConfig, entry: Entry, entries: Sequence[Entry]) -> bool:
    return config.export.stages == "all" or (config.export.stages == "last" and entry is entries[-1])


def _checkpoint_bytes(run: PlannedRun, trained: Sequence[PlannedStage]) -> int:
    """Of the largest stage's checkpoints: weights, two states of the optimizer and the average, each kept twice and once
    while the next is written."""
    sizes = [
        (settings.keep_checkpoints + 1) * (4 if settings.ema_decay > 0 else 3) * 4 * number
        for planned in trained
        if planned.trains
        for settings in [planned.stage.training]
        for number in [_count(run, planned.trained, planned.clip.height, planned.clip.width).parameters]
    ]
    return max(sizes, default=0)


def _clip_bytes(run: PlannedRun, planned: PlannedStage) -> int:
    """A stored clip: its latents in half precision and its compressed first frame."""
    height, width = run.codec.latent_size(planned.clip.height, planned.clip.width)
    latents = 2 * planned.clip.frames * run.codec.latent_channels * height * width
    return math.ceil(latents + FRAME_SHARE * planned.clip.height * planned.clip.width)


def _range(shortest_s: float, longest_s: float) -> str:
    return f"{_duration(shortest_s)} to {_duration(longest_s)}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{significant(seconds / length, 2)} {unit}"
    return f"{seconds:.0f} s"


def _size(amount: float) -> str:
    return f"{significant(amount / 1e9, 2)} GB" if amount >= 1e8 else f"{amount / 1e6:.0f} MB"
