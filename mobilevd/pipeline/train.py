"""One stage: transforms of the architecture, training with an objective, and the finished model in its folder."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import nn

from mobilevd.codecs.base import Codec
from mobilevd.config.objectives import AdversarialSettings
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.files import atomic_file, recover_folder
from mobilevd.model.checkpoint import read_config, save_model_folder
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import RunClips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.latents import training_latents
from mobilevd.pipeline.record import record_of
from mobilevd.pipeline.rows import Entry, claim_folder
from mobilevd.pipeline.watch import validator_of, watchers
from mobilevd.transforms import Transform, make_transform
from mobilevd.transforms.resolution import record_size
from training.data.batch import BatchSource
from training.engine.checkpoint_folder import remove_all
from training.loop import Trainer
from training.objectives import make_objective
from training.objectives.base import TrainingContext
from training.observe.report import Observers
from training.observe.step_flops import forward_flops, step_flops
from training.trainable import merge, select


def train_entry(
    config: RunConfig, entry: Entry, clips: RunClips, codec: Codec, display: Display, processes: PartialState
) -> None:
    """Make `entry.model` unless it is there; an interrupted training continues from its last checkpoint.

    Every process calls this, and all return when the model is there.
    """
    with processes.main_process_first():
        claim_folder(entry)
        recover_folder(entry.model)
    if entry.is_trained or entry.stage is None or entry.previous is None:
        return
    if not entry.previous.is_trained:
        raise UserError(f"{entry.previous.model}: the stage before {entry.name!r} is not there yet; run it first")
    stage = entry.stage
    # everything random outside the training steps (He's funnels, new heads) is a function of seed and stage
    torch.manual_seed(config.seed * 1_000_003 + zlib.crc32(entry.name.encode()))
    transforms = [make_transform(settings) for settings in stage.transforms]
    unet = SpatioTemporalUNet.from_pretrained(entry.previous.model)
    size = config.data.num_frames, *codec.latent_size(entry.height, entry.width)
    record_size(unet, *size)
    for transform in transforms:
        unet = transform.begin(unet)
    if stage.objective.trains and stage.training.steps > 0:
        unet = _train(config, entry, unet, transforms, clips, codec, display, processes)
    if processes.is_main_process:
        for transform in reversed(transforms):
            unet = transform.finish(unet)
        record_size(unet, *size)
        save_model_folder(unet, entry.model, record_of(config, entry))
        remove_all(entry.folder / "checkpoint")  # the model is there: no need to resume
    processes.wait_for_everyone()


def _train(
    config: RunConfig,
    entry: Entry,
    unet: SpatioTemporalUNet,
    transforms: Sequence[Transform[Any]],
    clips: RunClips,
    codec: Codec,
    display: Display,
    processes: PartialState,
) -> SpatioTemporalUNet:
    """Train a stage's model; return it, plain and on the CPU. With shards, the main process alone gets all of it."""
    assert entry.stage is not None
    settings = entry.stage.training
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    data = training_latents(config, clips.train, codec, entry, display, processes)
    unet = select(unet, settings.train, settings.lora_rank)
    objective = make_objective(entry.stage.objective, _context(config, entry, codec))
    for name, module in objective.modules().items():
        _start_from_previous(name, module, entry)
    device = next(codec.parameters()).device
    source = BatchSource(
        data,
        codec,
        config.data.fps,
        device,
        settings.batch_size,
        config.seed,
        half=settings.frozen_precision == "bf16",
    )
    observers = Observers()
    trainer = Trainer(
        unet,
        objective,
        transforms,
        source,
        settings,
        entry.folder,
        config.seed,
        entry.fingerprint,
        micro_batch=_micro_batch(config, entry, processes),
        validate=validator_of(config, entry, unet, clips, codec, display, processes, observers),
        step_flops=_step_flops(config, entry, unet, codec, processes),
    )
    if trainer.progress.step:
        display.line(f"  going on at step {trainer.progress.step}")
    for notice in trainer.notices:
        display.line(f"  {notice}")
    with display.bar(f"training {entry.name}", settings.steps) as bar, closing(observers):
        for observer in watchers(config, entry, trainer.progress.step, bar, display, processes):
            observers.add(observer)
        told = len(trainer.notices)
        trained = trainer.run(observers.logged)
    for notice in trainer.notices[told:]:
        display.line(f"  {notice}")
    if trainer.progress.skipped:
        display.line(f"  {trainer.progress.skipped} steps were skipped: their loss or gradient was not finite")
    if processes.is_main_process:
        for name, module in objective.modules().items():
            with atomic_file(_module_file(entry, name)) as temporary:
                save_file(module.state_dict(), temporary)
    return merge(trained)


def _micro_batch(config: RunConfig, entry: Entry, processes: PartialState) -> int | None:
    """Clips of a pass that fit into the GPU's memory; None on a CPU, or where the settings say."""
    assert entry.stage is not None
    device = torch.device(processes.device or "cpu")
    if device.type != "cuda" or entry.stage.training.micro_batch_size is not None:
        return None
    from training.plan.fit import micro_batch

    memory = torch.cuda.get_device_properties(device).total_memory
    return micro_batch(config, entry.name, processes.num_processes, memory)


def _step_flops(
    config: RunConfig, entry: Entry, unet: SpatioTemporalUNet, codec: Codec, processes: PartialState
) -> float:
    """FLOPs of an optimizer step in one process."""
    assert entry.stage is not None
    settings, objective = entry.stage.training, entry.stage.objective
    latents = config.data.num_frames, *codec.latent_size(entry.height, entry.width)
    encoder = read_config(entry.last_multi_step().model) if isinstance(objective, AdversarialSettings) else None
    teacher = read_config(entry.earlier(config.teacher_of(entry.name)).model) if objective.has_teacher else None
    parts = forward_flops(unet, latents, objective, codec, encoder, teacher)
    trained = [parameter.numel() for parameter in unet.parameters() if parameter.requires_grad]
    share = sum(trained) / sum(parameter.numel() for parameter in unet.parameters())
    each = step_flops(objective, parts, settings.gradient_checkpointing, share)
    return each.model * settings.batch_size / processes.num_processes


def _context(config: RunConfig, entry: Entry, codec: Codec) -> TrainingContext:
    """The parts of the run that the stage's objective may use."""
    assert entry.stage is not None

    def load(earlier: Entry) -> SpatioTemporalUNet:
        return SpatioTemporalUNet.from_pretrained(earlier.model)

    return TrainingContext(
        config.diffusion,
        codec.embedding_dim,
        load_multi_step=lambda: load(entry.last_multi_step()),
        load_teacher=lambda: load(entry.earlier(config.teacher_of(entry.name))),
        frozen_dtype=torch.bfloat16 if entry.stage.training.frozen_precision == "bf16" else torch.float32,
    )


def _module_file(entry: Entry, name: str) -> Path:
    """The file of a module that is trained beside the UNet (the discriminator's heads)."""
    return entry.folder / f"{name}.safetensors"


def _start_from_previous(name: str, module: nn.Module, entry: Entry) -> None:
    """Copy heads trained in an earlier stage: they know the data already, and the encoder is the same."""
    encoder, earlier = entry.last_multi_step(), entry.previous
    while earlier is not None and earlier is not encoder:
        file = _module_file(earlier, name)
        if file.is_file():
            tensors = load_file(file)
            if tensors.keys() == module.state_dict().keys():  # heads of another depth keep their new weights
                module.load_state_dict(tensors)
            return
        earlier = earlier.previous
