"""The stages of a run that train, as their configs describe them: all that counting needs, without weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from mobilevd.codecs.base import Codec
from mobilevd.codecs.fits import check_fits
from mobilevd.codecs.loading import codec_without_weights
from mobilevd.config.schema import RunConfig, StageSettings
from mobilevd.model.checkpoint import build_model
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.rehearsal import RehearsedStage, rehearse_stages


@dataclass(frozen=True)
class ClipSize:
    """Size of a stage's clips: frames, and height and width in pixels."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a run.

    Attributes:
        stage: its settings, those of the run filled in.
        clip: size of its clips.
        trained: config of the UNet that is trained.
        finished: config of the UNet that it ends with.
        multi_step: config of the nearest earlier UNet that is sampled in many steps; None if there is none.
        teacher: config of the UNet whose outputs are learned; None without one.
    """

    stage: StageSettings
    clip: ClipSize
    trained: dict[str, Any]
    finished: dict[str, Any]
    multi_step: dict[str, Any] | None
    teacher: dict[str, Any] | None

    @property
    def trains(self) -> bool:
        return self.stage.objective.trains and self.stage.training.steps > 0


@dataclass(frozen=True)
class PlannedRun:
    """A run: its stages in order, the config of its base, its codec (without weights), its noise levels."""

    config: RunConfig
    base: dict[str, Any]
    stages: list[PlannedStage]
    codec: Codec

    @property
    def trained(self) -> list[PlannedStage]:
        """The stages that train."""
        return [stage for stage in self.stages if stage.trains]

    def stage(self, name: str) -> PlannedStage:
        return next(stage for stage in self.stages if stage.stage.name == name)


def planned_run(config: RunConfig) -> PlannedRun:
    """Rehearse the stages of a configuration.

    The folders of base model and codec need no weights, their configs are enough. Raises UserError, naming the key, for
    a folder that is none and for a stage that cannot be.
    """
    codec = codec_without_weights(config.base.codec)
    rehearsed = rehearse_stages(config, config.base.model, codec.spatial_factor)
    with torch.device("meta"):
        base = _plain(dict(build_model(SpatioTemporalUNet, config.base.model).config))
    check_fits(codec, config.base.codec, base)
    stages: list[PlannedStage] = []
    for each in rehearsed:
        multi_step = next((s.finished for s in reversed(stages) if s.stage.nfe == "multi-step"), base)
        teacher = None
        if each.stage.objective.has_teacher:
            name = config.teacher_of(each.stage.name)
            teacher = next(stage.finished for stage in stages if stage.stage.name == name)
        stages.append(_planned(each, config, multi_step, teacher))
    return PlannedRun(config, base, stages, codec)


def _planned(
    each: RehearsedStage, config: RunConfig, multi_step: dict[str, Any], teacher: dict[str, Any] | None
) -> PlannedStage:
    clip = ClipSize(config.data.num_frames, each.height, each.width)
    return PlannedStage(each.stage, clip, each.trained, each.finished, multi_step, teacher)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def key_of(*parts: Any) -> str:
    """A text that is the same for the same configs and settings."""
    return json.dumps(
        [part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts],
        sort_keys=True,
        default=str,
    )
