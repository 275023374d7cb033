"""The clip from a picture with the programs of a bundle on this host, for `mobilevd generate --bundle`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from device_runner.bundle.manifest import MANIFEST
from device_runner.bundle.read import Bundle
from device_runner.bundle.whole_path import (
    ADDED_TIME_IDS,
    AUGMENTED_PICTURE,
    DECODER,
    DECODER_REST,
    FRAMES,
    IMAGE_ENCODER,
    LATENTS,
    NOISE,
    PICTURE,
    UNET,
    VAE_ENCODER,
    WHOLE_PATH,
)
from export.targets import find_target
from mobilevd.errors import UserError
from mobilevd.pixels import read_picture, starting_noise, tensor_to_frames

T = TypeVar("T")


def generate_with_bundle(bundle: Bundle, picture: Path, seed: int, threads: int | None = None) -> np.ndarray:
    """Animate a picture with a bundle's programs; return uint8 (T, H, W, 3).

    The same seed gives the same noise as `mobilevd.commands.generate.generate_frames`, and so the same clip up to
    rounding.

    Args:
        bundle: from `read_bundle`.
        picture: a picture file, cropped and resized to the bundle's size.
        threads: threads of the runtime; None leaves its default.

    Raises:
        UserError: a bundle without the whole path, or of a target that cannot run here; a picture that cannot be read.
    """
    check_can_run(bundle)
    strength, time_ids = _conditioning(bundle)
    programs = bundle.programs
    (_, _, height, width) = _shape(bundle, VAE_ENCODER, AUGMENTED_PICTURE)
    frames, *latent_shape = _shape(bundle, UNET, NOISE)
    image = read_picture(picture, height, width)
    noise, generator = starting_noise(seed, frames, *latent_shape)
    known = {
        PICTURE: image,
        AUGMENTED_PICTURE: image + strength * torch.randn(image.shape, generator=generator),
        NOISE: noise[0],
        ADDED_TIME_IDS: torch.tensor([time_ids], dtype=torch.float32),
    }
    for name in (IMAGE_ENCODER, VAE_ENCODER, UNET):
        inputs = [_known(bundle, name, known, each.name) for each in programs[name].inputs]
        known |= _run(bundle, name, inputs, threads)
    return tensor_to_frames(_decode(bundle, known[LATENTS], threads))


def frames_per_second(bundle: Bundle) -> float:
    """Frame rate of the clips that a bundle makes; UserError if its manifest does not say."""
    if bundle.manifest.model.fps is None:
        raise UserError(f"{bundle.folder / MANIFEST}: model.fps is missing; export the bundle again")
    return bundle.manifest.model.fps


def check_can_run(bundle: Bundle) -> None:
    """Raise UserError if the bundle lacks a program of the whole path, or cannot run on this host."""
    where = bundle.folder
    if missing := [name for name in WHOLE_PATH if name not in bundle.programs]:
        raise UserError(
            f"{where}: the bundle has no {missing[0]}, so it makes no clips; it has {', '.join(bundle.programs)}. "
            "Export it with --codec FOLDER"
        )
    target = find_target(bundle.target)
    if target.not_executed is not None:
        raise UserError(f"{where}: a bundle for {target.name} cannot run here: {target.not_executed}")


def _conditioning(bundle: Bundle) -> tuple[float, tuple[float, ...]]:
    """Noise-augmentation strength and micro-conditioning of a clip."""
    pipeline = bundle.manifest.pipeline
    if pipeline is None or pipeline.augmented_picture is None or pipeline.added_time_ids is None:
        raise UserError(
            f"{bundle.folder / MANIFEST}: pipeline does not say what a clip is made with "
            f"({AUGMENTED_PICTURE}.noise_aug_strength, {ADDED_TIME_IDS}); export the bundle again with --codec FOLDER"
        )
    return pipeline.augmented_picture.noise_aug_strength, pipeline.added_time_ids


def _decode(bundle: Bundle, latents: Tensor, threads: int | None) -> Tensor:
    """Decode latents (T, C, h, w) to frames (T, 3, H, W) in chunks; what is left over has a program of its own."""
    chunk = _shape(bundle, DECODER, LATENTS)[0]
    frames = []
    for part in latents.split(chunk):
        name = DECODER if len(part) == chunk else DECODER_REST
        if name not in bundle.programs or _shape(bundle, name, LATENTS)[0] != len(part):
            raise UserError(
                f"{bundle.folder}: {len(latents)} frames leave {len(part)} over after chunks of {chunk}, and the "
                f"bundle has no {DECODER_REST} for as many; export it again"
            )
        frames.append(_run(bundle, name, [part], threads)[FRAMES])
    return torch.cat(frames)


def _run(bundle: Bundle, name: str, inputs: Sequence[Tensor], threads: int | None) -> dict[str, Tensor]:
    """A program's outputs by name, in the shapes that the manifest gives."""
    program = bundle.programs[name]
    outputs = find_target(bundle.target).run(program.file, [each.contiguous() for each in inputs], threads)
    named = zip(program.outputs, outputs, strict=True)
    return {each.name: output.reshape(each.shape) for each, output in named}


def _shape(bundle: Bundle, program: str, name: str) -> tuple[int, ...]:
    """Shape of a program's input."""
    shapes = {each.name: each.shape for each in bundle.programs[program].inputs}
    return _known(bundle, program, shapes, name)


def _known(bundle: Bundle, program: str, known: Mapping[str, T], name: str) -> T:
    if name not in known:
        raise UserError(
            f"{bundle.folder}: {program} and the input {name!r} do not belong together; export the bundle again"
        )
    return known[name]
