"""The whole path from a picture to frames: the names of its programs and their tensors, and how they fit together.

An output and an input of the same name are the same tensor.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from device_runner.bundle.form import KEY, NULL, FormError, JsonObject

IMAGE_ENCODER, VAE_ENCODER, UNET, DECODER = "image_encoder", "vae_encoder", "unet", "decoder"
DECODER_REST = "decoder_rest"
"""Program for the frames that are left over after the decoder's whole chunks."""
WHOLE_PATH = (IMAGE_ENCODER, VAE_ENCODER, UNET, DECODER)
"""The programs in the order in which they run."""
PICTURE, AUGMENTED_PICTURE, NOISE = "picture", "augmented_picture", "noise"
IMAGE_EMBEDDING, IMAGE_LATENTS, ADDED_TIME_IDS = "image_embedding", "image_latents", "added_time_ids"
LATENTS, FRAMES = "latents", "frames"


@dataclass(frozen=True, kw_only=True)
class PictureEntry(JsonObject):
    """The input of the path: size in pixels, channel order, value range, and how a picture is fitted to the size."""

    height: int
    width: int
    channels: str
    range: tuple[float, ...]
    fit: str


@dataclass(frozen=True, kw_only=True)
class AugmentedPictureEntry(JsonObject):
    """The picture with added noise of this standard deviation."""

    noise_aug_strength: float
    formula: str = field(metadata={KEY: "is"})


@dataclass(frozen=True, kw_only=True)
class DrawEntry(JsonObject):
    """A tensor of random numbers."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RandomEntry(JsonObject):
    """The random numbers made from a seed: the generator, and the tensors in the order in which they are drawn."""

    generator: str
    draws: tuple[DrawEntry, ...]


@dataclass(frozen=True, kw_only=True)
class LatentsEntry(JsonObject):
    """The scaling of the latents between programs: whether there is one, its factor, and the program that undoes it."""

    scaled: bool
    scaling_factor: float
    unscaled_in: str


@dataclass(frozen=True, kw_only=True)
class DecoderEntry(JsonObject):
    """The decoder's way through a clip: frames per chunk, and a program of its own for the frames left over."""

    kind: str | None = None
    frames_per_chunk: int
    frames_left_over: int | None = None
    program_for_frames_left_over: str | None = field(default=None, metadata={NULL: True})


@dataclass(frozen=True, kw_only=True)
class FramesEntry(JsonObject):
    """The output of the path: number of frames, size in pixels, value range, frames per second."""

    count: int
    height: int | None = None
    width: int | None = None
    range: tuple[float, ...] | None = None
    fps: float | None = None


@dataclass(frozen=True, kw_only=True)
class PipelineEntry(JsonObject):
    """All that is needed to make a clip with a bundle, besides the programs themselves.

    Fields that measuring does not need may be missing.
    """

    order: tuple[str, ...]
    """Names of the programs; the last is the decoder."""
    codec: str | None = None
    picture: PictureEntry | None = None
    augmented_picture: AugmentedPictureEntry | None = None
    random: RandomEntry | None = None
    added_time_ids: tuple[float, ...] | None = None
    """The micro-conditioning, for a UNet program that has it as an input."""
    latents: LatentsEntry | None = None
    decoder: DecoderEntry
    frames: FramesEntry

    def runs_per_clip(self, programs: Collection[str]) -> dict[str, int] | None:
        """The number of runs of each program of the path for one clip; None if one of them is not among `programs`.

        Raises `FormError` if the decoder's chunks do not add up to the clip's frames.
        """
        if not self.order or any(name not in programs for name in self.order):
            return None
        frames, chunk = self.frames.count, self.decoder.frames_per_chunk
        if not 0 < chunk <= frames:
            text = f"must be from 1 to the {frames} frames of a clip, not {chunk}"
            raise FormError("decoder.frames_per_chunk", text)
        runs = dict.fromkeys(self.order, 1) | {self.order[-1]: frames // chunk}
        if frames % chunk:
            rest = self.decoder.program_for_frames_left_over
            if rest is None or rest not in programs:
                text = f"{rest!r} is not a program of the bundle"
                raise FormError("decoder.program_for_frames_left_over", text)
            runs[rest] = 1
        return runs
