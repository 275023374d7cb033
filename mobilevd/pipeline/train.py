"""One stage: transforms of the architecture, training with an objective, and the finished model in its folder."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import nn

from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.files import atomic_file, recover_folder, remove_own_folder
from mobilevd.model.checkpoint import save_model_folder
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import RunClips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.latents import training_latents
from mobilevd.pipeline.record import record_of
from mobilevd.pipeline.rows import Entry, claim_folder
from mobilevd.transforms import Transform, make_transform
from mobilevd.transforms.resolution import record_size
from training.checkpoint import FILES as CHECKPOINT_FILES
from training.data.batch import BatchSource
from training.loop import Report, Trainer
from training.objectives import make_objective
from training.objectives.base import TrainingContext


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
        remove_own_folder(entry.folder / "checkpoint", *CHECKPOINT_FILES)  # the model is there: no need to resume
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
    assert entry.stage is not None
    settings = entry.stage.training
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    data = training_latents(config, clips.train, codec, entry, display, processes)
    objective = make_objective(entry.stage.objective, _context(config, entry, codec))
    for name, module in objective.modules().items():
        _start_from_previous(name, module, entry)
    device = next(codec.parameters()).device
    source = BatchSource(data, codec, config.data.fps, device, settings.batch_size, config.seed)
    trainer = Trainer(unet, objective, transforms, source, settings, entry.folder, config.seed, entry.fingerprint)
    if trainer.progress.step:
        display.line(f"  going on at step {trainer.progress.step}")
    with display.bar(f"training {entry.name}", settings.steps) as bar:

        def show(report: Report) -> None:
            figures = " ".join(f"{key} {value:.3f}" for key, value in report.figures.items())
            note = f"{report.clips_per_s:.1f} clips/s, {report.memory_mb:.0f} MB, {figures}"
            bar.update(report.step, report.steps, note)

        unet = trainer.run(show)
    if trainer.progress.skipped:
        display.line(f"  {trainer.progress.skipped} steps were skipped: their loss or gradient was not finite")
    if processes.is_main_process:
        for name, module in objective.modules().items():
            with atomic_file(_module_file(entry, name)) as temporary:
                save_file(module.state_dict(), temporary)
    return unet.cpu()


def _context(config: RunConfig, entry: Entry, codec: Codec) -> TrainingContext:
    """The parts of the run that the stage's objective may use."""

    def load(earlier: Entry) -> SpatioTemporalUNet:
        return SpatioTemporalUNet.from_pretrained(earlier.model)

    return TrainingContext(
        config.diffusion,
        codec.embedding_dim,
        load_multi_step=lambda: load(entry.last_multi_step()),
        load_teacher=lambda: load(entry.earlier(config.teacher_of(entry.name))),
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
