"""How a run's models are sampled: written into each model's folder, and read for models from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobilevd.codecs import Codec, load_codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.model.sampling_record import FILE, SamplingRecord, read_record
from mobilevd.pipeline.rows import Entry, run_settings
from mobilevd.typed_paths import find_near


def record_of(config: RunConfig, entry: Entry) -> SamplingRecord:
    """The record of the model of a row."""
    settings = config.model_dump(mode="json")
    return _record(settings, entry.one_step, entry.height, entry.width, config.base.codec.absolute())


def find_record(model: Path) -> SamplingRecord | None:
    """The record in a model's folder; for the model of an earlier version's run, from the run's own files; else None.

    Raises UserError for a broken record.
    """
    if record := read_record(model):
        return record
    run = run_settings(model)
    if not run:
        return None
    data = run["data"]
    return _record(
        run, bool(run["one_step"]), data["height"], data["width"], find_near(model, Path(run["base"]["codec"]))
    )


def find_codec(model: Path, record: SamplingRecord | None, chosen: Path | None) -> Path | None:
    """The codec's folder: the chosen one, else that of the record; None if neither is known.

    Raises UserError if the recorded folder is gone.
    """
    if chosen is not None or record is None or record.codec is None:
        return chosen
    codec = Path(record.codec)
    if not codec.is_dir():
        raise UserError(f"{model / FILE}: the model's codec {codec} is not there any more; give --codec FOLDER")
    return codec


def load_codec_of(model: Path, record: SamplingRecord | None, chosen: Path | None) -> Codec | None:
    """The codec in `find_codec`'s folder."""
    folder = find_codec(model, record, chosen)
    return None if folder is None else load_codec(folder)


def _record(settings: Mapping[str, Any], one_step: bool, height: int, width: int, codec: Path | None) -> SamplingRecord:
    diffusion, data = settings["diffusion"], settings["data"]
    return SamplingRecord(
        one_step=one_step,
        num_steps=1 if one_step else diffusion["num_steps"],
        sigma_min=diffusion["sigma_min"],
        sigma_max=diffusion["sigma_max"],
        rho=diffusion["rho"],
        guidance_min=diffusion["guidance_min"],
        guidance_max=diffusion["guidance_max"],
        fps=data["fps"],
        motion_bucket_id=data["motion_bucket_id"],
        noise_aug_strength=diffusion["noise_aug_strength"],
        num_frames=data["num_frames"],
        height=height,
        width=width,
        codec=None if codec is None else str(codec),
    )
