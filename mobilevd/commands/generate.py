"""`mobilevd generate`: makes a clip from one picture, with a model folder or the exported programs of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console

from mobilevd.codecs import load_codec
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.diffusion.sampling import frame_guidance, generate_one_step, sample_euler
from mobilevd.diffusion.sigmas import karras_sigmas
from mobilevd.errors import UserError
from mobilevd.model.model_place import model_folder
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.record import find_codec, find_record
from mobilevd.pixels import read_picture, starting_noise, tensor_to_frames
from mobilevd.terminal import TerminalConsole
from training.data.video import write_video
from training.data.video_place import check_video_place


def generate_command(
    image: Path,
    out: Path,
    *,
    model: Path | None,
    bundle: Path | None,
    codec: Path | None,
    steps: int | None,
    height: int | None,
    width: int | None,
    frames_per_chunk: int | None,
    seed: int,
    loop: int = 1,
    boomerang: bool = False,
    console: Console | None = None,
) -> None:
    """Animate a picture, write the clip and print what was made; either `model` or `bundle` is given.

    Args:
        loop, boomerang: see `play_order`.

    Raises:
        UserError: both or neither of the two, options that a bundle has fixed, a height without a width or the reverse;
            see `generate_frames` and `generate_with_bundle`.
    """
    if (model is None) == (bundle is None):
        raise UserError("give either --model FOLDER or --bundle FOLDER" + (", not both" if model is not None else ""))
    check_video_place(out, [place for place in (image, model, bundle, codec) if place is not None])
    if bundle is not None:
        fixed = {"codec": codec, "steps": steps, "height": height, "width": width, "frames-per-chunk": frames_per_chunk}
        if given := [name for name, value in fixed.items() if value is not None]:
            raise UserError(f"--{given[0]} goes with --model; in a bundle it was fixed when it was exported")
        from device_runner.bundle.read import read_bundle
        from export.run_bundle import frames_per_second
        from export.run_in_child import generate_in_child

        checked = read_bundle(bundle)
        frames = generate_in_child(checked, image, seed)
        fps, how = frames_per_second(checked), f"with {checked.target}, {checked.precision}"
    else:
        assert model is not None
        model = model_folder(model)
        if (height is None) != (width is None):
            raise UserError("give --height and --width together, or neither")
        size = (height, width) if height is not None and width is not None else None
        codec_folder, count, settings = settings_for(model, codec, steps)
        unet = SpatioTemporalUNet.from_pretrained(model)
        settings |= {"seed": seed, "steps": count, "size": size, "frames_per_chunk": frames_per_chunk}
        frames = generate_frames(unet, codec_folder, image, **settings)
        fps, how = settings.get("fps", 7), f"{count} step(s)"
    order = play_order(len(frames), loop, boomerang)
    write_video(out, frames, fps, order)
    played = f", played as {len(order)} ({len(order) / fps:.1f} s)" if len(order) > len(frames) else ""
    (console or TerminalConsole()).print(
        f"{out}: {len(frames)} frames of {frames.shape[1]}x{frames.shape[2]}, {how}{played}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def play_order(num_frames: int, loop: int = 1, boomerang: bool = False) -> list[int]:
    """The numbers of the frames as a file shows them.

    Args:
        loop: how often the clip is played, at least once.
        boomerang: forwards and then backwards each time. The frames at both turns are shown once, so that the motion does
            not halt there, nor where a player starts the file again.
    """
    once = [*range(num_frames), *(range(num_frames - 2, 0, -1) if boomerang else [])]
    return once * loop


@torch.no_grad()
def generate_frames(
    unet: SpatioTemporalUNet,
    codec_folder: Path,
    picture: Path,
    *,
    seed: int,
    steps: int,
    size: tuple[int, int] | None = None,
    num_frames: int | None = None,
    fps: float = 7,
    motion_bucket_id: float = 127,
    noise_aug_strength: float = 0.02,
    guidance: tuple[float, float] = (1.0, 3.0),
    sigma_max: float = 700.0,
    sigma_min: float = 0.002,
    rho: float = 7.0,
    frames_per_chunk: int | None = None,
) -> np.ndarray:
    """Animate a picture; return uint8 (T, H, W, 3). `size` (height, width) is in pixels; None takes the model's own.

    One step evaluates the network once at `sigma_max`; more `steps` run the Euler sampler with guidance.
    `frames_per_chunk` is the number of frames decoded together, for a decoder that mixes frames (SVD's); None decodes
    the whole clip at once.
    """
    codec = load_codec(codec_folder)
    if hasattr(codec, "decode_chunk_size"):  # SVD's only; the others decode frame by frame
        cast(Any, codec).decode_chunk_size = frames_per_chunk
    known = unet.latent_size
    if size is None and known is None:
        raise UserError("the model's config records no sample_size: give the size in pixels")
    if size is None and known is not None:
        size = (known[0] * codec.spatial_factor, known[1] * codec.spatial_factor)
    assert size is not None
    height, width = codec.latent_size(*size)
    num_frames = num_frames or unet.num_frames
    unet.check_size(num_frames, height, width)
    noise, generator = starting_noise(seed, num_frames, codec.latent_channels, height, width)
    image = read_picture(picture, *size)
    conditions = condition_on_image(codec, image, None, fps, motion_bucket_id, noise_aug_strength, generator)
    if steps == 1:
        latents = generate_one_step(unet, noise, sigma_max, conditions)
    else:
        sigmas = karras_sigmas(steps, sigma_min, sigma_max, rho)
        latents = sample_euler(unet, noise, sigmas, conditions, frame_guidance(num_frames, *guidance))
    return tensor_to_frames(codec.decode(latents)[0])


def settings_for(model: Path, codec: Path | None, steps: int | None) -> tuple[Path, int, dict[str, Any]]:
    """Codec folder, number of steps and keyword arguments of `generate_frames` for a model folder.

    They are those of the model's own record; a model without one needs `codec`, and takes SVD's 25 steps by default.
    """
    record = find_record(model)
    folder = find_codec(model, record, codec)
    if folder is None:
        raise UserError(f"{model}: its folder does not tell the model's codec; give --codec FOLDER")
    if record is None:
        return folder, steps or 25, {}
    keywords = {
        "fps": record.fps,
        "motion_bucket_id": record.motion_bucket_id,
        "noise_aug_strength": record.noise_aug_strength,
        "guidance": (record.guidance_min, record.guidance_max),
        "sigma_max": record.sigma_max,
        "sigma_min": record.sigma_min,
        "rho": record.rho,
        "num_frames": record.num_frames,
    }
    return folder, steps or (1 if record.one_step else record.num_steps), keywords
