"""Real inputs for an export: pictures, encoded as the model will get them, to check and to calibrate a program on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from device_runner.bundle.whole_path import IMAGE_EMBEDDING, IMAGE_LATENTS
from mobilevd.codecs.base import Codec
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.errors import UserError
from mobilevd.folder_files import files_below
from mobilevd.picture_files import SUFFIXES as PICTURE_SUFFIXES
from mobilevd.pixels import read_picture, to_float
from training.data.video import read_clip
from training.data.videos import SUFFIXES as VIDEO_SUFFIXES

LIMIT = 9  # one to check the program on, the rest to calibrate it on
SEED = 0  # seed of the noise that augments the conditioning pictures


def find_images(place: Path) -> list[Path]:
    """Picture and video files at `place` (one file, or a folder), sorted; UserError if there are none."""
    if place.is_file():
        return [place]
    known = (*PICTURE_SUFFIXES, *sorted(VIDEO_SUFFIXES))
    found = files_below(place, known) if place.is_dir() else []
    if not found:
        what = "holds no pictures or videos" if place.is_dir() else "no such file or folder"
        raise UserError(f"{place}: {what}; give a picture, or a folder of pictures or videos ({', '.join(known)})")
    return found


def own_images(model: Path, settings: dict[str, Any]) -> Path | None:
    """The folder of the videos of the run that made a model; None outside a run, or if it is gone."""
    if not settings:
        return None
    videos = settings["data"]["videos"]
    place = Path(videos) if videos else model.parent.parent / "data" / "scenes-test"
    return place if place.exists() else None


def read_images(files: Sequence[Path], height: int, width: int) -> list[Tensor]:
    """Read up to `LIMIT` of the files with `read_image`, spread over all of them; the size is in pixels."""
    count = min(LIMIT, len(files))
    return [read_image(files[i * len(files) // count], height, width) for i in range(count)]


def encode_images(
    images: Sequence[Tensor], codec: Codec, fps: float, motion_bucket_id: float, noise_aug_strength: float
) -> list[dict[str, Tensor]]:
    """`image_latents` (1, C, h, w) and `image_embedding` (1, 1, D) of pictures (1, 3, H, W) in [-1, 1]."""
    generator = torch.Generator().manual_seed(SEED)
    encoded = []
    for image in images:
        conditions = condition_on_image(codec, image, None, fps, motion_bucket_id, noise_aug_strength, generator)
        encoded.append({IMAGE_LATENTS: conditions.image_latents, IMAGE_EMBEDDING: conditions.image_embedding})
    return encoded


def read_image(file: Path, height: int, width: int) -> Tensor:
    """A picture, or the first frame of a video, as (1, 3, H, W) in [-1, 1]."""
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        return read_picture(file, height, width)
    return to_float(torch.from_numpy(read_clip(file, 1, 1.0, 0.0, height, width)).permute(0, 3, 1, 2))
