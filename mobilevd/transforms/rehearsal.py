"""All stages of a run without weights and without training: what cannot be is told before the first minute of work.

The model lives on PyTorch's meta device, where tensors have a shape and no values, so SVD's size costs two seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mobilevd.config.load import check_divisible, check_frames
from mobilevd.config.schema import RunConfig, StageSettings
from mobilevd.errors import UserError
from mobilevd.model.checkpoint import build_model, read_config
from mobilevd.model.unet import SpatioTemporalUNet, size_multiple
from mobilevd.transforms import make_transform
from mobilevd.transforms.resolution import record_size


def stage_sizes(config: RunConfig, base_config: dict[str, Any], spatial_factor: int) -> list[tuple[int, int]]:
    """Height and width in pixels of the base and of every stage after it.

    Args:
        base_config: config of the base's UNet.
        spatial_factor: pixels per latent of the codec.

    Raises UserError, naming the key, if a size or the number of frames does not fit codec, UNet and multiscaling.
    """
    height, width = config.data.height, config.data.width
    multiple, frames = spatial_factor * size_multiple(base_config), int(base_config.get("temporal_scale", 1))
    check_divisible(height, width, multiple, "data")
    check_frames(config.data.num_frames, frames, "of the base model, base.model")
    sizes = [(height, width)]
    for stage in config.stages:
        for i, transform in enumerate(stage.transforms):
            height, width = transform.size_after(height, width)
            multiple, frames = multiple * transform.size_factor, frames * transform.frames_factor
            where = f"stages.{stage.name}.transforms.{i}"
            check_divisible(height, width, multiple, where)
            check_frames(config.data.num_frames, frames, f"from {where} ({transform.kind}) on")
        sizes.append((height, width))
    return sizes


@dataclass(frozen=True)
class RehearsedStage:
    """A stage's model as its config describes it, without weights.

    Attributes:
        stage: its settings.
        height, width: size of its clips in pixels.
        trained: config of the UNet that is trained, as the transforms' `begin` leaves it.
        finished: config of the UNet that the stage ends with.
    """

    stage: StageSettings
    height: int
    width: int
    trained: dict[str, Any]
    finished: dict[str, Any]


def rehearse_stages(config: RunConfig, base_model: Path, spatial_factor: int) -> list[RehearsedStage]:
    """Begin and finish every stage's transforms on the meta device, at the run's sizes.

    Raises UserError, naming the key, for a base that is no model and for a stage that cannot be.
    """
    sizes = stage_sizes(config, read_config(base_model), spatial_factor)
    num_frames = config.data.num_frames
    rehearsed: list[RehearsedStage] = []
    with torch.device("meta"):
        unet = build_model(SpatioTemporalUNet, base_model)
        for stage, size in zip(config.stages, sizes[1:], strict=True):
            latent = size[0] // spatial_factor, size[1] // spatial_factor
            record_size(unet, num_frames, *latent)
            transforms = [make_transform(settings) for settings in stage.transforms]
            for i, transform in enumerate(transforms):
                try:
                    unet = transform.begin(unet)
                except UserError as error:
                    raise UserError(f"stages.{stage.name}.transforms.{i}: {error}") from None
            trained = _config(unet)
            for transform in reversed(transforms):
                unet = transform.finish(unet)
            record_size(unet, num_frames, *latent)
            rehearsed.append(RehearsedStage(stage, *size, trained, _config(unet)))
    return rehearsed


def _config(unet: SpatioTemporalUNet) -> dict[str, Any]:
    return {key: value for key, value in dict(unet.config).items() if not key.startswith("_")}
