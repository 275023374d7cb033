"""The memory of a stage's training, for each process: what stays, and what passes at the peak."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from mobilevd.config.training import TrainingSettings
from training.engine.parallel import check_parallel
from training.engine.share import Share, share_of
from training.plan.codec import count_codec
from training.plan.machine import Machine
from training.plan.passes import StageCost, StageWeights, Turn, count_stage
from training.plan.stages import PlannedRun, PlannedStage

GIB = 2**30
CONTEXT_BYTES = int(0.8 * GIB)
"""Of CUDA's context, the libraries' kernels and their workspaces: 0.5 to 1 GiB from GPU to GPU."""
NCCL_BYTES = int(0.5 * GIB)
"""Of the buffers that NCCL keeps for its channels, with several GPUs."""
PROCESS_BYTES = 80 * 2**20
"""Of a processor's kernels, their scratch memory and threads: the median of ten measured trainings of 4 and 70 million
parameters (58 to 111 MB, whatever the size; `benchmarks/memory_plan.py`)."""
FRAGMENTED = 0.05
"""Share of passing tensors that PyTorch's allocator cannot use again for others of other sizes."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at its peak.

    Attributes:
        weights: the UNet and the heads, float32 (a shard of the UNet with FSDP).
        gradients: of what is trained; DDP's buckets are the same memory.
        optimizer: states of the optimizers.
        ema: the averaged copy of what is trained.
        frozen: the frozen encoder and the teacher.
        activations: everything that passes, at the peak: what the backward pass needs, casts of weights, scratch memory,
            blocks that FSDP gathers; or the change that the moving average takes in, if that is more.
        codec: the codec's weights.
        reserve: CUDA, NCCL, and what the allocator cannot use again; on a processor what its kernels take.
    """

    weights: int
    gradients: int
    optimizer: int
    ema: int
    frozen: int
    activations: int
    codec: int
    reserve: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in dataclasses.fields(self))


def check_stage(settings: TrainingSettings, machine: Machine) -> Share:
    """The share of a process. UserError for a batch that does not divide, or for sharding that cannot be."""
    machine.check_parallel(settings.parallel)
    check_parallel(settings, machine.processes)
    return share_of(settings.batch_size, machine.processes, 0, settings.micro_batch_size)


def stage_memory(
    run: PlannedRun, planned: PlannedStage, machine: Machine, micro_batch: int, exact: bool = True
) -> Memory:
    """Memory of a stage's training in one process, with `micro_batch` clips in a pass; `exact` as in `cost_of`."""
    settings, clip = planned.stage.training, planned.clip
    cost = cost_of(run, planned, micro_batch, machine.gpu, exact)
    weights, sharded, processes = cost.weights, settings.parallel == "fsdp", machine.processes
    shards = processes if sharded else 1
    codec = count_codec(
        run.codec,
        clip,
        micro_batch,
        settings.frozen_precision == "bf16",
        machine.gpu,
        run.config.data.latents == "computed",
    )
    clips = math.ceil(settings.batch_size / processes)
    gradients = weights.trained // shards + weights.heads
    peak = _peak(cost, weights.trained // shards, sharded, accumulates=clips > micro_batch)
    peak = max(peak, gradients + cost.averaging // shards, codec.passing + (gradients if clips > micro_batch else 0))
    if sharded:
        peak += _gathered(weights, settings)
    is_frozen_sharded = sharded and not weights.frozen_is_half
    return Memory(
        weights=weights.unet // shards + weights.heads,
        gradients=gradients,
        optimizer=_optimizer_bytes(settings, weights, shards),
        ema=weights.trained // shards if settings.ema_decay > 0 else 0,
        frozen=weights.frozen // (processes if is_frozen_sharded else 1),
        activations=peak - gradients,
        codec=codec.weights,
        reserve=_reserve(peak, machine),
    )


def cost_of(run: PlannedRun, planned: PlannedStage, micro_batch: int, gpu: bool, exact: bool = True) -> StageCost:
    """The cost for a micro-batch: counted, or else on the straight line through what is counted for 1 and 2 clips."""
    arguments = run.config.diffusion, run.codec.embedding_dim, run.codec.spatial_factor

    def counted(clips: int) -> StageCost:
        return count_stage(planned, *arguments, clips, gpu)

    if exact or micro_batch <= 2:
        return counted(micro_batch)
    one, two = counted(1), counted(2)

    def along(name: str, field: str) -> int:
        first, second = getattr(one.turns[name], field), getattr(two.turns[name], field)
        return first + (micro_batch - 1) * (second - first)

    turns = {name: Turn(*(along(name, field.name) for field in dataclasses.fields(Turn))) for name in one.turns}
    return dataclasses.replace(one, turns=turns)


def _peak(cost: StageCost, trained: int, sharded: bool, accumulates: bool) -> int:
    """Bytes of passing tensors and gradients at the peak of the turns."""
    peaks = []
    for turn in cost.turns.values():
        if sharded:  # gradients of the UNet leave block by block; their shards stay
            peaks.append(turn.activations + turn.gradients + (trained if turn.gradients < trained else 0))
        elif accumulates:  # all gradients are there when the next pass begins
            peaks.append(turn.activations + turn.gradients)
        else:
            peaks.append(turn.with_gradients)
    return max(peaks)


def _gathered(weights: StageWeights, settings: TrainingSettings) -> int:
    """Bytes of what FSDP gathers: the block that computes and the next one, one being copied, and their gradients.

    Weights travel in the precision of the passes, gradients are summed in float32.
    """
    each = 4 if settings.mixed_precision == "no" else 2
    return weights.largest_block * (3 * each + 2 * (each + 4))


def _optimizer_bytes(settings: TrainingSettings, weights: StageWeights, shards: int) -> int:
    """States of the UNet's optimizer and of the heads', which are never sharded."""
    heads = weights.heads if settings.optimizer == "sm3" else 2 * weights.heads
    return heads + sum(_state_bytes(settings, shape) for shape in weights.trained_shapes) // shards


def _state_bytes(settings: TrainingSettings, shape: tuple[int, ...]) -> int:
    numel = math.prod(shape)
    if settings.optimizer == "sm3":  # momentum, and a maximum per row of each dimension
        return 4 * numel + 4 * sum(shape)
    # torchao's: a byte per number and state, and a scale for each 256; small tensors stay in float32
    if settings.optimizer == "adamw-8bit" and numel >= 4096 and numel % 256 == 0:
        return 2 * numel + 2 * 4 * numel // 256
    return 8 * numel


def _reserve(passing: int, machine: Machine) -> int:
    if not machine.gpu:
        return PROCESS_BYTES
    return CONTEXT_BYTES + (NCCL_BYTES if machine.processes > 1 else 0) + int(FRAGMENTED * passing)
