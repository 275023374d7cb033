"""Evaluation of one row: clips are generated from held-out first frames and compared with real clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.features import FeatureExtractor
from eval.protocol import evaluate_clips
from eval.samples import write_contact_sheet
from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.diffusion.preconditioning import Conditions
from mobilevd.diffusion.sampling import frame_guidance, function_evaluations, generate_one_step, sample_euler
from mobilevd.diffusion.sigmas import karras_sigmas
from mobilevd.errors import UserError
from mobilevd.model.flops import count_flops
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import RunClips, read_clips, spread
from mobilevd.pipeline.rows import Entry
from mobilevd.pixels import frames_to_tensor, tensor_to_frames
from training.data.video import write_video

MAX_REFERENCE_CLIPS = 2048  # as in the usual FVD protocol


def guidance_of(config: RunConfig) -> Tensor:
    """Guidance scale per frame (T,)."""
    diffusion = config.diffusion
    return frame_guidance(config.data.num_frames, diffusion.guidance_min, diffusion.guidance_max)


Sampler = Callable[[Tensor, Conditions], Tensor]
"""A map from unit-variance noise (B, T, 4, h, w) and conditions to latents of the noise's shape."""


def sampler_of(config: RunConfig, entry: Entry, unet: SpatioTemporalUNet) -> Sampler:
    """The sampler of an entry's model: one evaluation, or the multi-step sampler."""
    diffusion = config.diffusion
    if entry.one_step:
        return lambda noise, conditions: generate_one_step(unet, noise, diffusion.sigma_max, conditions)
    sigmas = karras_sigmas(diffusion.num_steps, diffusion.sigma_min, diffusion.sigma_max, diffusion.rho)
    return lambda noise, conditions: sample_euler(unet, noise, sigmas, conditions, guidance_of(config))


@torch.no_grad()
def generate(
    config: RunConfig,
    entry: Entry,
    sample: Sampler,
    codec: Codec,
    first_frames: np.ndarray,
    on_clips: Callable[[int], None],
) -> np.ndarray:
    """Animate first frames, uint8 (N, H, W, 3) at the entry's size -> uint8 (N, T, H, W, 3).

    Clip i's noise comes from the seed evaluation.seed + i, whatever the batch size.
    """
    diffusion, data = config.diffusion, config.data
    device = next(codec.parameters()).device
    height, width = codec.latent_size(entry.height, entry.width)
    clips = []
    for start in range(0, len(first_frames), config.evaluation.batch_size):
        images = frames_to_tensor(first_frames[start : start + config.evaluation.batch_size]).to(device)
        noise, conditions = [], []
        shape = (data.num_frames, codec.latent_channels, height, width)
        for i in range(len(images)):
            generator = torch.Generator().manual_seed(config.evaluation.seed + start + i)
            noise.append(torch.randn(shape, generator=generator))
            conditions.append(
                condition_on_image(
                    codec,
                    images[i : i + 1],
                    None,
                    data.fps,
                    data.motion_bucket_id,
                    diffusion.noise_aug_strength,
                    generator,
                )
            )
        together = type(conditions[0])(
            torch.cat([c.image_latents for c in conditions]),
            torch.cat([c.image_embedding for c in conditions]),
            torch.cat([c.added_time_ids for c in conditions]),
        )
        latents = sample(torch.stack(noise).to(device), together)
        clips.append(tensor_to_frames(codec.decode(latents)))
        on_clips(start + len(images))
    return np.concatenate(clips)


def resize_clips(clips: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (N, T, H, W, 3) to another size: bilinear with antialiasing."""
    if clips.shape[2:4] == (height, width):
        return clips
    count, frames = clips.shape[:2]
    pixels = torch.from_numpy(clips).flatten(0, 1).permute(0, 3, 1, 2).float()
    small = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).unflatten(0, (count, frames)).numpy()


@dataclass
class Evaluator:
    """The real clips and the feature extractor that all rows are evaluated with."""

    config: RunConfig
    extractor: FeatureExtractor
    codec: Codec
    clips: RunClips
    reference: np.ndarray  # uint8 (M, T, H, W, 3) at the evaluation's size

    @classmethod
    def of(cls, config: RunConfig, extractor: FeatureExtractor, codec: Codec, clips: RunClips) -> Evaluator:
        chosen = spread(clips.test.clips, MAX_REFERENCE_CLIPS)
        if len(chosen) < 2:
            raise UserError(
                f"{chosen[0].video.path.parent}: {len(chosen)} clip to judge by; a distance needs at least 2: add videos, "
                "or raise data.holdout or data.clips_per_video"
            )
        return cls(config, extractor, codec, clips, cls._sized(config, chosen))

    @property
    def reference_identity(self) -> str:
        """SHA-256 of which clips are judged by: names of files and starts. A row judged by others is judged again."""
        chosen = spread(self.clips.test.clips, MAX_REFERENCE_CLIPS)
        listed = [[clip.video.name, round(clip.start_s, 3)] for clip in chosen]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    @staticmethod
    def _sized(config: RunConfig, chosen: list[Any]) -> np.ndarray:
        pixels = read_clips(config, chosen, config.data.height, config.data.width)
        return resize_clips(pixels, config.evaluation.height, config.evaluation.width)

    def evaluate(self, entry: Entry, on_clips: Callable[[int], None]) -> dict[str, Any]:
        """Generate, compare, write samples.mp4 and contact_sheet.png, and return the row's figures."""
        config = self.config
        unet = SpatioTemporalUNet.from_pretrained(entry.model)
        cast(nn.Module, unet).to(next(self.codec.parameters()).device)
        result, generated, real = self.compare(entry, sampler_of(config, entry, unet), on_clips)
        shown = min(config.evaluation.sheet_clips, len(generated))
        self._write_samples(entry, generated[:shown], real[:shown])
        latent_size = self.codec.latent_size(entry.height, entry.width)
        count = count_flops(unet, config.data.num_frames, *latent_size)
        guidance = guidance_of(config)
        nfe = 1 if entry.one_step else function_evaluations(config.diffusion.num_steps, guidance)
        return {
            "nfe": nfe,
            **result,
            "parameters": count.parameters,
            "tflops": count.flops / 1e12,
            "flops_per_clip": count.flops * nfe,
            "height": entry.height,
            "width": entry.width,
            "temporal_blocks": len(unet.temporal_block_names()),
        }

    def compare(
        self, entry: Entry, sample: Sampler, on_clips: Callable[[int], None]
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        """Generate from the held-out first frames; return the figures, and generated and real clips in full size."""
        config, evaluation = self.config, self.config.evaluation
        chosen = spread(self.clips.test.clips, evaluation.clips)
        real = read_clips(config, chosen, entry.height, entry.width)
        generated = generate(config, entry, sample, self.codec, real[:, 0], on_clips)
        small = resize_clips(generated, evaluation.height, evaluation.width)
        conditions = resize_clips(real[:, :1], evaluation.height, evaluation.width)[:, 0]
        result = evaluate_clips(small, self.reference, self.extractor, fps=config.data.fps, conditions=conditions)
        return result, generated, real

    def _write_samples(self, entry: Entry, generated: np.ndarray, real: np.ndarray) -> None:
        rows, labels = [], []
        for i, (ours, theirs) in enumerate(zip(generated, real, strict=True)):
            rows += [theirs, ours]
            labels += [f"real {i + 1}", f"{entry.label} {i + 1}"]
        write_contact_sheet(entry.folder / "contact_sheet.png", rows, labels)
        pairs = [np.concatenate([theirs, ours], axis=2) for ours, theirs in zip(generated, real, strict=True)]
        wall = np.concatenate(pairs, axis=1)  # a column of "real | generated" pairs, (T, n*H, 2*W, 3)
        wall = wall.repeat(2, axis=1).repeat(2, axis=2)  # players show clips of 64 pixels very small
        write_video(entry.folder / "samples.mp4", wall, self.config.data.fps)
