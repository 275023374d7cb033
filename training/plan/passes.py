"""The cost of a stage's passes: bytes that are alive at the peak, and operations, counted in the stage's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mobilevd.config.schema import DiffusionSettings
from mobilevd.config.training import TrainingSettings
from mobilevd.diffusion.preconditioning import Conditions
from mobilevd.model.anatomy import block_modules
from mobilevd.model.unet import SpatioTemporalUNet
from training.data.batch import Batch
from training.data.draws import Draws
from training.engine.average import WeightAverage
from training.engine.forms import set_forms
from training.objectives import make_objective
from training.objectives.base import Objective, TrainingContext
from training.plan.fake import fake_tensors, make_fake, weight_bytes
from training.plan.live import LiveBytes
from training.plan.stages import PlannedStage, key_of
from training.trainable import select

AFTER_ALL_STARTS = 10**9
"""A step at which a stage's warm-ups are over."""


@dataclass(frozen=True)
class Turn:
    """One pass of a micro-batch in a phase's turn.

    Attributes:
        activations: bytes at the peak, gradients of weights left out.
        with_gradients: bytes at the peak, with those gradients as they come.
        gradients: bytes of those gradients when the pass is over.
        flops: floating-point operations, forward and backward, and forward again with checkpointing.
    """

    activations: int
    with_gradients: int
    gradients: int
    flops: int


@dataclass(frozen=True)
class StageWeights:
    """Bytes of a stage's weights; numbers of parameters.

    Attributes:
        unet: of the UNet's weights, in float32.
        trained: of those of them that are trained.
        heads: of further trained modules.
        frozen: of the objective's frozen models.
        frozen_is_half: whether those are in bfloat16.
        largest_block: parameters of the largest block, of the UNet or a frozen model.
        largest_tensor: of the largest trained weight.
        trained_shapes: shapes of all trained weights.
    """

    unet: int
    trained: int
    heads: int
    frozen: int
    frozen_is_half: bool
    largest_block: int
    largest_tensor: int
    trained_shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class StageCost:
    """The weights of a stage and its turns by name, for one size of micro-batch.

    `averaging`: bytes that pass while the moving average takes in a step.
    """

    weights: StageWeights
    turns: dict[str, Turn]
    averaging: int


_counted: dict[str, StageCost] = {}


def count_stage(
    planned: PlannedStage,
    diffusion: DiffusionSettings,
    embedding_dim: int,
    spatial_factor: int,
    micro_batch: int,
    gpu: bool,
) -> StageCost:
    """Count a stage's weights and passes of `micro_batch` clips; what was counted before is remembered."""
    settings = planned.stage.training
    seen = settings.model_dump(
        include={
            "mixed_precision",
            "frozen_precision",
            "gradient_checkpointing",
            "train",
            "lora_rank",
            "parallel",
            "ema_decay",
        }
    )
    models = planned.trained, planned.multi_step, planned.teacher
    key = key_of(seen, models, planned.clip, planned.stage.objective, diffusion, embedding_dim, micro_batch, gpu)
    if key not in _counted:
        unet, objective = _models(planned, diffusion, embedding_dim)
        weights = _weights(unet, objective, settings)
        latent = planned.clip.height // spatial_factor, planned.clip.width // spatial_factor
        size = micro_batch, planned.clip.frames, unet.latent_channels, *latent
        with fake_tensors(gpu):
            turns = _turns(unet, objective, settings, size, embedding_dim, gpu)
            _counted[key] = StageCost(weights, turns, _averaging(unet) if settings.ema_decay > 0 else 0)
    return _counted[key]


def _models(
    planned: PlannedStage, diffusion: DiffusionSettings, embedding_dim: int
) -> tuple[SpatioTemporalUNet, Objective]:
    """The UNet as it is trained and the objective, as a stage makes them, on the meta device."""

    def made(config: dict[str, Any] | None) -> SpatioTemporalUNet:
        assert config is not None
        with torch.device("meta"):
            return SpatioTemporalUNet(**config)

    settings = planned.stage.training
    context = TrainingContext(
        diffusion,
        embedding_dim,
        load_multi_step=lambda: made(planned.multi_step),
        load_teacher=lambda: made(planned.teacher),
        frozen_dtype=torch.bfloat16 if settings.frozen_precision == "bf16" else torch.float32,
    )
    unet = made(planned.trained)
    return select(unet, settings.train, settings.lora_rank), make_objective(planned.stage.objective, context)


def _weights(unet: SpatioTemporalUNet, objective: Objective, settings: TrainingSettings) -> StageWeights:
    module, frozen = cast(nn.Module, unet), objective.frozen()
    blocks = [block for each in (module, *frozen) for block in block_modules(each, resamplers=True).values()]
    trained = [tuple(p.shape) for p in module.parameters() if p.requires_grad]
    return StageWeights(
        unet=weight_bytes(unet),
        trained=weight_bytes(unet, trained=True),
        heads=sum(weight_bytes(each) for each in objective.modules().values()),
        frozen=sum(weight_bytes(each) for each in frozen),
        frozen_is_half=settings.frozen_precision == "bf16",
        largest_block=max(sum(p.numel() for p in block.parameters()) for block in blocks),
        largest_tensor=max(torch.Size(shape).numel() for shape in trained),
        trained_shapes=tuple(trained),
    )


def _turns(
    unet: SpatioTemporalUNet,
    objective: Objective,
    settings: TrainingSettings,
    size: tuple[int, ...],
    embedding_dim: int,
    gpu: bool,
) -> dict[str, Turn]:
    """Run a forward and backward pass of every turn of a late step, as the training loop does."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.mixed_precision)
    sharded = settings.parallel == "fsdp"
    set_forms([cast(nn.Module, unet), *objective.frozen()], settings.gradient_checkpointing)
    module = make_fake(cast(nn.Module, unet).train(), gpu, half if sharded else None)
    for each in objective.frozen():
        make_fake(each, gpu, half if sharded and settings.frozen_precision == "fp32" else None)
    for each in objective.modules().values():
        make_fake(each, gpu)
    _set_gates(unet)
    turns = {}
    trained = [module, *objective.modules().values()]
    for phase in objective.phases(AFTER_ALL_STARTS):
        with LiveBytes(trained, shards=sharded) as counted:
            batch = Batch(torch.empty(size), _conditions(size, unet, embedding_dim))
            draws = Draws(0, 0, 0, range(size[0]))
            with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
                loss, _ = objective.loss(phase, unet, batch, draws)
            torch.autograd.backward(loss)
        turns[phase] = Turn(counted.peak, counted.peak_with_gradients, counted.gradients, counted.flops)
        del loss
        for each in trained:
            each.zero_grad(set_to_none=True)
    return turns


def _averaging(unet: SpatioTemporalUNet) -> int:
    parameters = {name: p for name, p in cast(nn.Module, unet).named_parameters() if p.requires_grad}
    average = WeightAverage(parameters, 0.5, torch.device("cpu"))
    with LiveBytes() as counted:
        average.update(torch.zeros(()))
    return counted.peak


def _conditions(size: tuple[int, ...], unet: SpatioTemporalUNet, embedding_dim: int) -> Conditions:
    clips = size[0]
    ids = int(unet.config["projection_class_embeddings_input_dim"]) // int(unet.config["addition_time_embed_dim"])
    return Conditions(
        torch.empty(clips, unet.condition_channels, *size[3:]),
        torch.empty(clips, 1, embedding_dim),
        torch.empty(clips, ids),
    )


def _set_gates(unet: SpatioTemporalUNet) -> None:
    """Gate the temporal blocks, which the draw of temporal pruning needs values for: what a gate multiplies is kept."""
    importance = unet.temporal_importance
    if importance is not None:
        for i, mixer in enumerate(unet.time_mixers().values()):
            cast(Any, mixer).gate = cast(Tensor, importance)[i]
