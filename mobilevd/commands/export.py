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
from export.model import ExportRequest, check_bundle_folders, chosen_targets, export_model
from mobilevd.codecs import Codec
from mobilevd.errors import UserError
from mobilevd.model.model_place import model_folder
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.builds import run_in_build
from mobilevd.pipeline.export_and_measure import settings_of
from mobilevd.pipeline.pictures import encode_images, find_images, own_images, read_images
from mobilevd.pipeline.record import find_record, load_codec_of
from mobilevd.pipeline.rows import run_settings
from mobilevd.terminal import TerminalConsole


def export_command(
    model: Path,
    out: Path,
    *,
    targets: Sequence[str],
    precision: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    size: tuple[int | None, int | None] = (None, None),
    one_step: bool = False,
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
    """Export a model folder as its own record says; a model of a run is checked on the run's own videos.

    Args:
        conditioning: fields of `OneStepSettings` that the user chose; None means not chosen.
        size: height and width in pixels that the user chose.
        one_step: export a model as a one-step program though its record says that it takes several steps.
        images: a picture or a folder of pictures or videos; None takes the run's own videos.
        codec_folder: the codec; None takes the recorded one. If there is a codec, its programs go into the bundle too.
        unet_only: leave the codec's programs out.
        decoder, frames_per_chunk: see `export.codec.programs.codec_programs`.

    Raises:
        UserError: see `export_model`; a number that cannot be, a model of several steps, pictures without a codec to
            encode them.
    """
    # what the user mistyped is told before anything is read: these sizes stand for those of the model
    OneStepSettings(1, 1, **{"num_frames": 1, **_chosen(conditioning)})
    goal = None
    if min_psnr is not None or max_size_mb is not None:
        goal = Goal(min_psnr, None if max_size_mb is None else max_size_mb * 1e6)
    read = [place for place in (model, images, codec_folder) if place is not None]
    check_bundle_folders(out, chosen_targets(targets, precision, goal), read)
    model = model_folder(model)
    record = find_record(model)
    if record is not None and not record.one_step and not one_step:
        raise UserError(
            f"{model}: a model of {record.num_steps} steps; a program of one step would give noise. Export the model that "
            "a one-step stage left, or give --one-step if this is meant (to measure its latency, for example)"
        )
    unet = SpatioTemporalUNet.from_pretrained(model)
    place = images or own_images(model, run_settings(model))
    codec = load_codec_of(model, record, codec_folder)
    if images is not None and codec is None:
        raise UserError(f"{images}: to encode pictures the codec must be known; give --codec FOLDER")
    chosen = {**_chosen(conditioning), **_latent_size(size, 8 if codec is None else codec.spatial_factor)}
    settings = settings_of(unet, record, codec, chosen)
    if record is None and "sigma" not in chosen:
        (console or TerminalConsole()).print(
            f"note: {model} does not tell how it is sampled; exported for one step at sigma {settings.sigma:g}, "
            f"{settings.fps:g} fps, motion bucket {settings.motion_bucket_id:g} (--sigma, --fps, --motion-bucket)",
            soft_wrap=True,
        )
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
        run_in_build=run_in_build,
    )
    return export_model(model, out, request, console)


def _chosen(conditioning: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (conditioning or {}).items() if value is not None}


def _latent_size(size: tuple[int | None, int | None], factor: int) -> dict[str, int]:
    """The chosen sides in latents; UserError for one that is not a multiple of the codec's pixels per latent."""
    latent = {}
    for option, name, pixels in (("--height", "latent_height", size[0]), ("--width", "latent_width", size[1])):
        if pixels is None:
            continue
        if pixels < 1 or pixels % factor:
            raise UserError(
                f"{option} {pixels}: must be a positive multiple of {factor}, the codec's pixels per latent"
            )
        latent[name] = pixels // factor
    return latent


def _pictures(place: Path, codec: Codec, settings: OneStepSettings) -> list[Tensor]:
    factor = codec.spatial_factor
    return read_images(find_images(place), settings.latent_height * factor, settings.latent_width * factor)


def _encode(pictures: Sequence[Tensor], codec: Codec, settings: OneStepSettings) -> list[dict[str, Tensor]]:
    return encode_images(pictures, codec, settings.fps, settings.motion_bucket_id, settings.noise_aug_strength)
