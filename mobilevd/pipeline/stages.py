"""One stage: transforms of the architecture, training with an objective, and the finished model in its folder."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file

from mobilevd.checkpoint import save_model_folder
from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.config.transforms import AdversarialObjective as AdversarialConfig
from mobilevd.config.transforms import DenoiseObjective as DenoiseConfig
from mobilevd.config.transforms import DistillationObjective as DistillationConfig
from mobilevd.errors import UserError
from mobilevd.files import atomic_file, recover_folder
from mobilevd.pipeline.data import RunClips, training_latents
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.layout import Entry, claim_folder
from mobilevd.transforms import Transform, make_transform
from mobilevd.transforms.resolution import record_latent_size
from mobilevd.unet import SpatioTemporalUNet
from training.batch import BatchSource
from training.discriminator import DiscriminatorHeads, FrozenEncoder
from training.loop import Report, Trainer
from training.objectives.adversarial import AdversarialObjective
from training.objectives.base import Objective
from training.objectives.denoise import DenoiseObjective
from training.objectives.distillation import DistillationObjective

HEADS_FILE = "discriminator.safetensors"


def train_entry(
    config: RunConfig, entry: Entry, clips: RunClips, codec: Codec, display: Display, processes: PartialState
) -> None:
    """Make `entry.model` unless it is there; an interrupted training goes on where its last checkpoint was.

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
    transforms = [make_transform(spec) for spec in stage.transforms]
    unet = SpatioTemporalUNet.from_pretrained(entry.previous.model)
    for transform in transforms:
        unet = transform.begin(unet)
    if stage.objective.kind != "none" and stage.training.steps > 0:
        unet = _train(config, entry, unet, transforms, clips, codec, display, processes)
    if processes.is_main_process:
        for transform in reversed(transforms):
            unet = transform.finish(unet)
        record_latent_size(unet, *codec.latent_size(entry.height, entry.width))
        save_model_folder(unet, entry.model)
        shutil.rmtree(entry.folder / "checkpoint", ignore_errors=True)  # the model is there: nothing goes on from it
    processes.wait_for_everyone()


def _train(
    config: RunConfig,
    entry: Entry,
    unet: SpatioTemporalUNet,
    transforms: Sequence[Transform],
    clips: RunClips,
    codec: Codec,
    display: Display,
    processes: PartialState,
) -> SpatioTemporalUNet:
    assert entry.stage is not None
    settings = entry.stage.training
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    limit = settings.latent_clips
    with processes.main_process_first():
        data = training_latents(config, clips.train, codec, entry.height, entry.width, limit, display)
    objective = _objective(config, entry, codec)
    device = next(codec.parameters()).device
    source = BatchSource(data, codec, config.data.fps, config.data.motion_bucket_id, device)
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
    if isinstance(objective, AdversarialObjective) and processes.is_main_process:
        with atomic_file(entry.folder / HEADS_FILE) as temporary:
            save_file(objective.heads.state_dict(), temporary)
    return unet.cpu()


def _objective(config: RunConfig, entry: Entry, codec: Codec) -> Objective:
    assert entry.stage is not None
    spec, diffusion = entry.stage.objective, config.diffusion
    if isinstance(spec, DenoiseConfig):
        return DenoiseObjective(diffusion.p_mean, diffusion.p_std, spec.conditioning_dropout)
    if isinstance(spec, DistillationConfig):
        return DistillationObjective(_teacher(config, entry), diffusion.sigma_max)
    assert isinstance(spec, AdversarialConfig)
    encoder = FrozenEncoder(SpatioTemporalUNet.from_pretrained(entry.last_multi_step().model))
    heads = DiscriminatorHeads(encoder.channels, codec.embedding_dim, spec.heads_depth)
    _start_from_previous(heads, entry)
    return AdversarialObjective(
        encoder,
        heads,
        sigma_min=diffusion.sigma_min,
        sigma_max=diffusion.sigma_max,
        rho=diffusion.rho,
        grid_steps=spec.grid_steps,
        sigma_points=spec.sigma_points,
        p_mean=spec.discriminator_p_mean,
        p_std=spec.discriminator_p_std,
        r1_weight=spec.r1_weight,
        huber_weight=spec.huber_weight,
        huber_c=spec.huber_c,
        heads_learning_rate=spec.heads_learning_rate,
        discriminator_steps_first=spec.discriminator_steps_first,
        teacher=_teacher(config, entry) if spec.distillation_weight > 0 else None,
        distillation_weight=spec.distillation_weight,
    )


def _teacher(config: RunConfig, entry: Entry) -> SpatioTemporalUNet:
    return SpatioTemporalUNet.from_pretrained(entry.earlier(config.teacher_of(entry.name)).model)


def _start_from_previous(heads: DiscriminatorHeads, entry: Entry) -> None:
    """Heads trained in an earlier stage go on in this one: they know the data already, and the encoder is the same."""
    encoder, earlier = entry.last_multi_step(), entry.previous
    while earlier is not None and earlier is not encoder:
        if (earlier.folder / HEADS_FILE).is_file():
            tensors = load_file(earlier.folder / HEADS_FILE)
            if tensors.keys() == heads.state_dict().keys():  # heads of another depth start anew
                heads.load_state_dict(tensors)
            return
        earlier = earlier.previous
