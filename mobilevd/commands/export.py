"""`mobilevd export`: combines a model folder, the settings of its run and the options into one export request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from device_runner.bundle.manifest import Manifest
from export.codec.whole_path import settings_for_codec, whole_path
from export.generator.one_step import OneStepSettings
from export.mixed_precision.search import Goal
from export.model import ExportRequest, export_model
from export.targets import parse_target
from mobilevd.codecs import Codec, load_codec
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.export_and_measure import settings_of
from mobilevd.pipeline.pictures import encode_images, find_images, own_images, read_images
from mobilevd.pipeline.rows import run_settings


def export_command(
    model: Path,
    out: Path,
    *,
    targets: Sequence[str],
    precision: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    images: Path | None = None,
    codec_folder: Path | None = None,
    unet_only: bool = False,
    decoder: str = "own",
    frames_per_chunk: int | None = None,
    min_psnr: float | None = None,
    max_size_mb: float | None = None,
    allow_low_parity: bool = False,
    console: Console | None = None,
) -> dict[str, Manifest]:
    """Export a model folder; a model of a run is exported as the run uses it, and checked on the run's own videos.

    Args:
        conditioning: fields of `OneStepSettings` that the user chose; None means not chosen.
        images: a picture or a folder of pictures or videos; None takes the run's own videos.
        codec_folder: the codec; None takes the run's. If there is a codec, its programs go into the bundle too.
        unet_only: leave the codec's programs out.
        decoder, frames_per_chunk: see `export.codec.programs.codec_programs`.

    Raises:
        UserError: see `export_model`; pictures without a codec to encode them.
    """
    for target in targets:
        parse_target(target, precision)  # report a misspelt target before anything is read
    run = run_settings(model)
    unet = SpatioTemporalUNet.from_pretrained(model)
    codec_folder = codec_folder or (Path(run["base"]["codec"]) if run else None)
    place = images or own_images(model, run)
    if images is not None and codec_folder is None:
        raise UserError(f"{images}: to encode pictures the codec must be known; give --codec FOLDER")
    codec = load_codec(codec_folder) if codec_folder is not None else None
    settings = settings_of(unet, run, codec, conditioning or {})
    pictures = _pictures(place, codec, settings) if place is not None and codec is not None else []
    encoded = _encode(pictures, codec, settings) if codec is not None else []
    others, pipeline = [], None
    if codec is not None and not unet_only:
        settings = settings_for_codec(settings, unet, codec)
        picture = pictures[0] if pictures else None
        others, pipeline = whole_path(
            codec,
            settings,
            picture=picture,
            decoder=decoder,
            frames_per_chunk=frames_per_chunk,
            calibration=pictures[1:],
        )
    goal = None
    if min_psnr is not None or max_size_mb is not None:
        goal = Goal(min_psnr, None if max_size_mb is None else max_size_mb * 1e6)
    request = ExportRequest(
        targets=targets,
        precision=precision,
        settings=settings,
        inputs=encoded[0] if encoded else None,
        calibration=encoded[1:],
        others=others,
        pipeline=pipeline,
        goal=goal,
        allow_low_parity=allow_low_parity,
    )
    return export_model(model, out, request, console)


def _pictures(place: Path, codec: Codec, settings: OneStepSettings) -> list[Tensor]:
    factor = codec.spatial_factor
    return read_images(find_images(place), settings.latent_height * factor, settings.latent_width * factor)


def _encode(pictures: Sequence[Tensor], codec: Codec, settings: OneStepSettings) -> list[dict[str, Tensor]]:
    return encode_images(pictures, codec, settings.fps, settings.motion_bucket_id, settings.noise_aug_strength)
