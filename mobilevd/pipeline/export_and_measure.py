"""Export of one row's model, and the measurement of its program on a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from device_runner.bundle.manifest import MANIFEST, Manifest
from device_runner.bundle.read import read_manifest
from device_runner.bundle.whole_path import IMAGE_EMBEDDING, IMAGE_LATENTS, NOISE
from device_runner.devices.base import Device
from device_runner.devices.job import Progress
from device_runner.devices.kinds import open_device
from device_runner.measure.measure import measure, no_progress
from device_runner.protocol.protocol import Protocol
from export.bundle import export_bundle
from export.generator.one_step import OneStepSettings
from export.model import default_settings
from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.files import atomic_write_json, sha256_file
from mobilevd.json_files import load_json, read_json
from mobilevd.model.flops import count_flops
from mobilevd.model.sampling_record import SamplingRecord
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.builds import run_in_build
from mobilevd.pipeline.data import RunClips, read_clips, spread
from mobilevd.pipeline.export_choices import BUNDLE, ExportChoice, export_choices, measured_on_host
from mobilevd.pipeline.pictures import encode_images
from mobilevd.pipeline.record import record_of
from mobilevd.pipeline.rows import Entry
from mobilevd.pixels import frames_to_tensor

CALIBRATION_CLIPS = 8
HOST = "host"
SOUND = ("outliers", "busy")
"""Kinds of warnings that say nothing against a median in a run: a few slow measurements, and the load average before the
start, which is that of the run's own training. What other programs took during the measurement is "disturbed"."""
DEVICE_KEYS = ("name", "model", "fingerprint", "cpu", "logical_cores", "usable_cores")


def export_entry(config: RunConfig, entry: Entry, codec: Codec, clips: RunClips) -> dict[str, Manifest]:
    """Write the entry's bundles unless they are there, with a held-out clip's first frame as reference input.

    Returns the manifests by the names of their folders, in the order of `export_choices`.
    """
    choices = export_choices(config.export)
    lacking = [choice for choice in choices if not _is_there(entry, choice)]
    if lacking:
        _export(config, entry, codec, clips, lacking)
    return {choice.folder: read_manifest(entry.folder / choice.folder) for choice in choices}


def _is_there(entry: Entry, choice: ExportChoice) -> bool:
    """True if the bundle is there and of this choice: the first one's folder has the same name whatever it holds."""
    bundle = entry.folder / choice.folder
    if not (bundle / MANIFEST).is_file():
        return False
    manifest = read_manifest(bundle)
    return (manifest.target, manifest.precision) == (choice.target.name, choice.precision)


def _export(config: RunConfig, entry: Entry, codec: Codec, clips: RunClips, choices: Sequence[ExportChoice]) -> None:
    data, diffusion = config.data, config.diffusion
    unet = SpatioTemporalUNet.from_pretrained(entry.model)
    height, width = codec.latent_size(entry.height, entry.width)
    generator = torch.Generator().manual_seed(config.seed)
    real = read_clips(config, clips.test.clips[:1], entry.height, entry.width)
    image = frames_to_tensor(real[:, 0]).to(next(codec.parameters()).device)
    conditions = condition_on_image(
        codec, image, None, data.fps, data.motion_bucket_id, diffusion.noise_aug_strength, generator
    )
    noise = torch.randn(data.num_frames, codec.latent_channels, height, width, generator=generator)
    calibration = []
    if any(choice.target.calibrated and choice.precision == "int8" for choice in choices):
        # static ranges come from training clips, because the reference is held out
        frames = read_clips(config, spread(clips.train.clips, CALIBRATION_CLIPS), entry.height, entry.width)[:, 0]
        images = [frames_to_tensor(frame[None]).to(image.device) for frame in frames]
        calibration = encode_images(images, codec, data.fps, data.motion_bucket_id, diffusion.noise_aug_strength)
    count = count_flops(unet, data.num_frames, height, width)
    size = {"latent_height": height, "latent_width": width}
    inputs = {
        NOISE: noise,
        IMAGE_LATENTS: conditions.image_latents.cpu(),
        IMAGE_EMBEDDING: conditions.image_embedding.cpu(),
    }
    for choice in choices:
        export_bundle(
            unet,
            entry.folder / choice.folder,
            settings_of(unet, record_of(config, entry), codec, size),
            name=f"{config.name}/{entry.name}",
            inputs=inputs,
            calibration=calibration if choice.target.calibrated and choice.precision == "int8" else [],
            target=choice.target.name,
            precision=choice.precision,
            flops=count.flops,
            run_in_build=run_in_build,
        )


def settings_of(
    unet: SpatioTemporalUNet,
    record: SamplingRecord | None,
    codec: Codec | None,
    chosen: Mapping[str, Any] | None = None,
) -> OneStepSettings:
    """The exported program's settings: the user's choices, else those that the model was trained with, else SVD's."""
    settings = default_settings(unet)
    if codec is not None:
        settings = replace(settings, spatial_factor=codec.spatial_factor)
    if record is not None:
        settings = replace(
            settings,
            num_frames=record.num_frames,
            sigma=record.sigma_max,
            fps=record.fps,
            motion_bucket_id=record.motion_bucket_id,
            noise_aug_strength=record.noise_aug_strength,
        )
    return replace(settings, **{key: value for key, value in (chosen or {}).items() if value is not None})


def measure_entry(
    config: RunConfig,
    entry: Entry,
    device: str = HOST,
    again: bool = False,
    folder: str | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure a bundle of the entry unless that was done; raw samples go to bench.json, a phone's to bench-device.json.

    `folder` is the bundle's in the entry's; None: on this host the first that runs here, on a phone the first.
    Those of other bundles than these go to files that are called by them: bench-onnx-fp16.json.

    `again` measures what was measured, too; of the two, the measurement with fewer doubts stays.
    """
    usual = usual_bundle(config, device)
    folder = folder or usual
    kind = "bench" if device == HOST else "bench-device"
    file = entry.folder / f"{kind}{'' if folder == usual else folder.removeprefix(BUNDLE)}.json"
    bench = config.bench
    protocol = Protocol(warmup=bench.warmup, iterations=bench.iterations, threads=bench.threads)
    opened = open_device(device)
    kept = _kept(file, entry.folder / folder, opened, protocol)
    if kept and not again:
        return kept
    measured = measure(entry.folder / folder, opened, protocol, progress=progress)
    if kept and len(doubts_of(kept.get("warnings", ()))) <= len(doubts_of(measured.warnings)):
        return kept
    atomic_write_json(file, measured.to_json())
    return read_json(file)


def usual_bundle(config: RunConfig, device: str = HOST) -> str:
    """Folder of the bundle whose latency is the row's: on this host of the first program that runs here."""
    choices = export_choices(config.export)
    return ((measured_on_host(choices) if device == HOST else None) or choices[0]).folder


def doubts_of(warnings: Iterable[str]) -> list[str]:
    """A measurement's warnings that concern its figure."""
    return [warning for warning in warnings if not warning.startswith(SOUND)]


def _kept(file: Path, bundle: Path, device: Device, protocol: Protocol) -> dict[str, Any] | None:
    """The measurement in a file, if it is of exactly this bundle, device and protocol."""
    if not file.is_file():
        return None
    facts = {"name": device.name, **device.describe()}
    try:
        kept = load_json(file)
        same_device = all(kept["device"][key] == facts.get(key) for key in DEVICE_KEYS if key in kept["device"])
        same_bundle = kept["bundle"]["sha256"] == sha256_file(bundle / MANIFEST)
        return kept if same_device and same_bundle and kept["protocol"] == protocol.to_json() else None
    except (ValueError, KeyError, TypeError):
        return None  # not ours, or of an older version: measure again
