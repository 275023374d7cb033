"""The work of a run in floating-point operations, and the hours that it takes on a machine."""

from __future__ import annotations

from dataclasses import dataclass

from mobilevd.config.training import HardwareSettings
from mobilevd.diffusion.sampling import frame_guidance, function_evaluations
from mobilevd.model.flops import count_flops
from training.plan.codec import count_codec
from training.plan.machine import Machine
from training.plan.memory import cost_of
from training.plan.stages import ClipSize, PlannedRun, PlannedStage


@dataclass(frozen=True)
class PlannedWork:
    """A piece of work.

    Attributes:
        flops: operations, on all GPUs together.
        hours: on the machine, all its GPUs at the given utilization; None if its peak is not known.
    """

    flops: float
    hours: float | None


def step_flops(run: PlannedRun, planned: PlannedStage, micro_batch: int, gpu: bool) -> float:
    """Operations of an optimizer step over all processes: what runs, with what checkpointing computes again."""
    settings = planned.stage.training
    cost = cost_of(run, planned, micro_batch, gpu)
    half = settings.frozen_precision == "bf16"
    codec = count_codec(run.codec, planned.clip, micro_batch, half, gpu, run.config.data.latents == "computed")
    passes = sum(turn.flops + codec.condition_flops for turn in cost.turns.values())
    return passes / micro_batch * settings.batch_size


def stage_work(run: PlannedRun, planned: PlannedStage, micro_batch: int, machine: Machine) -> PlannedWork:
    """The training of a stage."""
    settings = planned.stage.training
    flops = step_flops(run, planned, micro_batch, machine.gpu) * settings.steps
    peak = machine.peak_tflops(settings.mixed_precision, settings.tf32)
    return PlannedWork(flops, _hours(flops, peak, machine, run.config.hardware))


def encoding_work(run: PlannedRun, clips: int, machine: Machine) -> PlannedWork:
    """Encoding `clips` clips once for every size that a stage trains at."""
    flops = 0.0
    for clip in dict.fromkeys(planned.clip for planned in run.trained):
        flops += clips * _codec_flops(run, clip, machine)[0]
    return PlannedWork(flops, _hours(flops, machine.peak_tflops("bf16", True), machine, run.config.hardware))


def evaluation_work(run: PlannedRun, machine: Machine) -> PlannedWork:
    """Generating and decoding the clips that every row of the table is judged by."""
    config, base = run.config, run.base
    diffusion, data = config.diffusion, config.data
    guidance = frame_guidance(data.num_frames, diffusion.guidance_min, diffusion.guidance_max)
    evaluations = function_evaluations(diffusion.num_steps, guidance)
    first = ClipSize(data.num_frames, data.height, data.width)
    rows = [(base, first, evaluations), (base, first, 1)]
    for planned in run.stages:
        rows.append((planned.finished, planned.clip, 1 if planned.stage.nfe == "one-step" else evaluations))
    flops = 0.0
    for unet, clip, count in rows:
        latent = run.codec.latent_size(clip.height, clip.width)
        each = count * count_flops(unet, clip.frames, *latent).flops + _codec_flops(run, clip, machine)[1]
        flops += config.evaluation.clips * each
    peak = machine.peak_tflops(config.evaluation.mixed_precision, config.training.tf32)
    return PlannedWork(flops, _hours(flops, peak, machine, config.hardware))


def _codec_flops(run: PlannedRun, clip: ClipSize, machine: Machine) -> tuple[int, int]:
    """Operations of encoding and of decoding a clip."""
    cost = count_codec(run.codec, clip, 1, True, machine.gpu, clips=True)
    return cost.encode_flops, cost.decode_flops


def _hours(flops: float, tflops: float | None, machine: Machine, hardware: HardwareSettings) -> float | None:
    if tflops is None:
        return None
    return flops / (tflops * 1e12 * hardware.utilization * machine.processes) / 3600
