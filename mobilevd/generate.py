"""A clip from one picture, with a model folder: what `mobilevd generate` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from mobilevd.codecs import load_codec
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.diffusion.sampling import frame_guidance, generate_one_step, sample_euler
from mobilevd.diffusion.sigmas import karras_sigmas
from mobilevd.errors import UserError
from mobilevd.transforms.resolution import latent_size
from mobilevd.unet import SpatioTemporalUNet


def read_picture(path: Path, height: int, width: int) -> torch.Tensor:
    """A picture file as (1, 3, H, W) in [-1, 1]: centre-cropped to the asked aspect, then resized."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a picture that can be read ({error})") from None
    scale = min(picture.width / width, picture.height / height)
    crop_width, crop_height = scale * width, scale * height
    left, top = (picture.width - crop_width) / 2, (picture.height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    small = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 127.5 - 1


def run_settings(model: Path) -> dict[str, Any]:
    """What the run that made `model` knew: its config, and whether this stage is sampled in one step; empty outside one."""
    entry, config = model.parent / "entry.json", model.parent.parent / "config.json"
    if not (entry.is_file() and config.is_file()):
        return {}
    settings = json.loads(config.read_text())
    name = json.loads(entry.read_text())["name"]
    stage = next((stage for stage in settings["stages"] if stage["name"] == name), None)
    return {**settings, "one_step": stage is not None and stage["nfe"] == "one-step"}


@torch.no_grad()
def generate_frames(
    unet: SpatioTemporalUNet,
    codec_folder: Path,
    picture: Path,
    *,
    seed: int,
    steps: int,
    size: tuple[int, int] | None = None,
    fps: int = 7,
    motion_bucket_id: int = 127,
    noise_aug_strength: float = 0.02,
    guidance: tuple[float, float] = (1.0, 3.0),
    sigma_max: float = 700.0,
    frames_per_chunk: int | None = None,
) -> np.ndarray:
    """Animate a picture: uint8 (T, H, W, 3). `size` (height, width) in pixels; None takes the model's own.

    `steps` 1 evaluates the network once at `sigma_max`, more run the Euler sampler with guidance. `frames_per_chunk` are
    decoded together, where a decoder mixes frames (SVD's); None decodes the whole clip at once.
    """
    codec = load_codec(codec_folder)
    if hasattr(codec, "decode_chunk_size"):  # SVD's; the others decode frame by frame
        cast(Any, codec).decode_chunk_size = frames_per_chunk
    known = latent_size(unet)
    if size is None and known is None:
        raise UserError("the model's config records no sample_size: give the size in pixels")
    if size is None and known is not None:
        size = (known[0] * codec.spatial_factor, known[1] * codec.spatial_factor)
    assert size is not None
    height, width = codec.latent_size(*size)
    num_frames = int(unet.config["num_frames"])
    unet.check_size(num_frames, height, width)
    noise, generator = starting_noise(seed, num_frames, codec.latent_channels, height, width)
    image = read_picture(picture, *size)
    conditions = condition_on_image(codec, image, None, fps, motion_bucket_id, noise_aug_strength, generator)
    if steps == 1:
        latents = generate_one_step(unet, noise, sigma_max, conditions)
    else:
        sigmas = karras_sigmas(steps, sigma_max=sigma_max)
        latents = sample_euler(unet, noise, sigmas, conditions, frame_guidance(num_frames, *guidance))
    return to_pixels(codec.decode(latents)[0])


def starting_noise(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Generator]:
    """The clip's noise (1, T, C, h, w), the first draw of a seed; the picture's augmentation is the generator's next."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, *shape), generator=generator), generator


def to_pixels(frames: torch.Tensor) -> np.ndarray:
    """Frames (T, 3, H, W) in [-1, 1] as uint8 (T, H, W, 3)."""
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def settings_for(model: Path, codec: Path | None, steps: int | None) -> tuple[Path, int, dict[str, Any]]:
    """Codec folder, number of steps and keyword arguments of `generate_frames` for a model folder.

    A model of a run knows them; another needs the codec said, and takes SVD's 25 steps.
    """
    settings = run_settings(model)
    if codec is None and not settings:
        raise UserError(f"{model}: not a model of a run, so its codec is not known; give --codec FOLDER")
    if not settings:
        assert codec is not None
        return codec, steps or 25, {}
    diffusion, data = settings["diffusion"], settings["data"]
    keywords = {
        "fps": data["fps"],
        "motion_bucket_id": data["motion_bucket_id"],
        "noise_aug_strength": diffusion["noise_aug_strength"],
        "guidance": (diffusion["guidance_min"], diffusion["guidance_max"]),
        "sigma_max": diffusion["sigma_max"],
    }
    chosen = steps or (1 if settings["one_step"] else int(diffusion["num_steps"]))
    return codec or Path(settings["base"]["codec"]), chosen, keywords
