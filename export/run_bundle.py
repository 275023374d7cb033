"""A clip from a picture with the programs of a bundle on this host: what `mobilevd generate --bundle` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from export.codec_programs import (
    AUGMENTED_PICTURE,
    DECODER,
    DECODER_REST,
    FRAMES,
    IMAGE_ENCODER,
    LATENTS,
    PICTURE,
    VAE_ENCODER,
)
from export.one_step import CONDITIONING_INPUT
from export.targets import find_target
from export.unet_program import NAME as UNET
from export.whole_path import PIPELINE
from mobilevd.errors import UserError
from mobilevd.pixels import read_picture, starting_noise, tensor_to_frames

STEPS = (IMAGE_ENCODER, VAE_ENCODER, UNET, DECODER)
T = TypeVar("T")


class ReadTensor(Protocol):
    """An input or output of a program, as the manifest has it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class ReadProgram(Protocol):
    """A program of a bundle whose file was checked."""

    @property
    def file(self) -> Path: ...
    @property
    def inputs(self) -> Sequence[ReadTensor]: ...
    @property
    def outputs(self) -> Sequence[ReadTensor]: ...


class ReadBundle(Protocol):
    """A bundle whose files were all checked, of `device_runner.bundle.read_bundle` (which this room may not import)."""

    @property
    def folder(self) -> Path: ...
    @property
    def target(self) -> str: ...
    @property
    def programs(self) -> Mapping[str, ReadProgram]: ...


def generate_with_bundle(bundle: ReadBundle, picture: Path, seed: int, threads: int | None = None) -> np.ndarray:
    """Animate a picture with a bundle's programs: uint8 (T, H, W, 3).

    The same seed gives the same noise as `mobilevd.generate.generate_frames`, and so the same clip up to rounding.

    Args:
        bundle: of `device_runner.bundle.read_bundle`.
        picture: file; cropped and resized to the bundle's size.
        threads: of the runtime; None leaves its own number.

    Raises:
        UserError: a bundle without the whole path, or of a target that cannot run here; a picture that cannot be read.
    """
    entry = check_can_run(bundle)
    programs = bundle.programs
    (_, _, height, width) = _shape(bundle, VAE_ENCODER, AUGMENTED_PICTURE)
    frames, *latent_shape = _shape(bundle, UNET, "noise")
    image = read_picture(picture, height, width)
    noise, generator = starting_noise(seed, frames, *latent_shape)
    strength = entry[AUGMENTED_PICTURE]["noise_aug_strength"]
    known = {
        PICTURE: image,
        AUGMENTED_PICTURE: image + strength * torch.randn(image.shape, generator=generator),
        "noise": noise[0],
        CONDITIONING_INPUT: torch.tensor([entry[CONDITIONING_INPUT]], dtype=torch.float32),
    }
    for name in (IMAGE_ENCODER, VAE_ENCODER, UNET):
        inputs = [_known(bundle, name, known, each.name) for each in programs[name].inputs]
        known |= _run(bundle, name, inputs, threads)
    return tensor_to_frames(_decode(bundle, known[LATENTS], threads))


def check_can_run(bundle: ReadBundle) -> dict[str, Any]:
    """The manifest's `pipeline`; UserError if the bundle lacks a part of the path, or cannot run on this host."""
    where = bundle.folder
    if missing := [name for name in STEPS if name not in bundle.programs]:
        raise UserError(
            f"{where}: the bundle has no {missing[0]}, so it makes no clips; it has {', '.join(bundle.programs)}. "
            "Export it with --codec FOLDER"
        )
    target = find_target(bundle.target)
    if target.not_executed is not None:
        raise UserError(f"{where}: a bundle for {target.name} cannot run here: {target.not_executed}")
    entry = json.loads((where / "manifest.json").read_text(encoding="utf-8")).get(PIPELINE)
    try:
        float(entry[AUGMENTED_PICTURE]["noise_aug_strength"])
        [float(value) for value in entry[CONDITIONING_INPUT]]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{where / 'manifest.json'}: {PIPELINE} does not say what a clip is made with "
            f"({AUGMENTED_PICTURE}.noise_aug_strength, {CONDITIONING_INPUT}); export the bundle again with --codec FOLDER"
        ) from None
    return entry


def _decode(bundle: ReadBundle, latents: Tensor, threads: int | None) -> Tensor:
    """Latents (T, C, h, w) to frames (T, 3, H, W), a chunk at a time; what is left over has a program of its own."""
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


def _run(bundle: ReadBundle, name: str, inputs: Sequence[Tensor], threads: int | None) -> dict[str, Tensor]:
    """A program's outputs by name, in the shapes that the manifest gives."""
    program = bundle.programs[name]
    outputs = find_target(bundle.target).run(program.file, [each.contiguous() for each in inputs], threads)
    named = zip(program.outputs, outputs, strict=True)
    return {each.name: output.reshape(each.shape) for each, output in named}


def _shape(bundle: ReadBundle, program: str, name: str) -> tuple[int, ...]:
    """Shape of a program's input."""
    shapes = {each.name: each.shape for each in bundle.programs[program].inputs}
    return _known(bundle, program, shapes, name)


def _known(bundle: ReadBundle, program: str, known: Mapping[str, T], name: str) -> T:
    if name not in known:
        raise UserError(
            f"{bundle.folder}: {program} and the input {name!r} do not belong together; export the bundle again"
        )
    return known[name]
