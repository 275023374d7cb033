"""Who watches a stage train: its bar, its log, the run's trackers, and the validations on held-out clips."""

from __future__ import annotations

import numpy as np
from accelerate import PartialState

from eval.features import FeatureExtractor, load_extractor
from mobilevd.codecs.base import Codec
from mobilevd.collective import together
from mobilevd.config.schema import RunConfig
from mobilevd.config.transforms import TemporalPruningSettings
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import RunClips, spread
from mobilevd.pipeline.display import ActivityBar, Display, TrainingDisplay
from mobilevd.pipeline.held_out import MAX_REFERENCE_CLIPS, read_first_frame, reference_clips
from mobilevd.pipeline.reference import summarize_reference
from mobilevd.pipeline.rows import Entry
from mobilevd.transforms.temporal_pruning import TemporalPruning
from training.observe.log import TrainingLog
from training.observe.report import Observer, Validator
from training.observe.tracker_kinds import TrackedStage
from training.observe.trackers import Trackers
from training.observe.validation import StageValidator, ValidationSettings

REFERENCE_CLIPS = 512
"""Real clips of a validation whose extractor is not the evaluation's: its features need a pass of their own."""
SMALL_EXTRACTOR = "motion"


def watchers(
    config: RunConfig, entry: Entry, step: int, bar: ActivityBar, display: Display, processes: PartialState
) -> list[Observer]:
    """The observers of a stage that goes on after `step`: none in processes other than the main one."""
    if not processes.is_main_process:
        return []
    tracking = config.tracking
    stage = TrackedStage(tracking.project, config.name, entry.name, config.output / "tracking")
    settings = config.model_dump(mode="json")

    def warn(text: str) -> None:
        display.line(f"  {text}")

    return [
        TrainingDisplay(bar, display),
        TrainingLog(entry.folder, step),
        Trackers(tracking.trackers, stage, settings, step, warn),
    ]


def validator_of(
    config: RunConfig,
    entry: Entry,
    unet: SpatioTemporalUNet,
    clips: RunClips,
    codec: Codec,
    display: Display,
    processes: PartialState,
    observer: Observer | None = None,
) -> Validator | None:
    """The validator of a stage, `unet` as it begins to train; None if the stage asks for none. All processes call it.

    Args:
        observer: told of every validation by the main process.
    """
    assert entry.stage is not None
    training, evaluation = entry.stage.training, config.evaluation
    if not training.validate_every:
        return None
    extractor: FeatureExtractor = together(
        processes, lambda: load_extractor(SMALL_EXTRACTOR, device=str(processes.device))
    )
    limit = MAX_REFERENCE_CLIPS if evaluation.features == SMALL_EXTRACTOR else REFERENCE_CLIPS
    chosen = together(processes, lambda: reference_clips(clips, limit))
    with display.bar("reading clips to validate with", len(chosen)) as bar:
        reference = summarize_reference(
            config, chosen, extractor, processes, lambda done: bar.update(done, len(chosen))
        )
    animated = spread(clips.test.clips, training.validation_clips)
    frames = together(
        processes, lambda: np.stack([read_first_frame(config, c, entry.height, entry.width) for c in animated])
    )
    settings = ValidationSettings(
        folder=entry.folder,
        title=entry.name,
        data=config.data,
        diffusion=config.diffusion,
        one_step=entry.one_step,
        height=evaluation.height,
        width=evaluation.width,
        seed=evaluation.seed,
        mixed_precision=training.mixed_precision,
        batch_size=evaluation.batch_size,
        keep=_blocks_kept(entry, unet),
    )
    return StageValidator(settings, frames, reference, extractor, codec, processes, observer)


def _blocks_kept(entry: Entry, unet: SpatioTemporalUNet) -> int | None:
    """Number of temporal blocks that a stage will keep; None if it prunes none."""
    assert entry.stage is not None
    for transform in entry.stage.transforms:
        if isinstance(transform, TemporalPruningSettings):
            return TemporalPruning(transform).blocks_to_keep(len(unet.temporal_block_names()))
    return None
