"""The bundle: the exported program with its manifest, reference tensors and proofs, written whole or not at all."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.delegation import delegation_of
from export.folding import fold_for_phone
from export.one_step import OneStepGenerator
from export.parity import GATES_DB, Parity, compare, run_program
from export.xnnpack import NotDelegated, lower_by_partitioner, lower_to_xnnpack
from mobilevd.errors import UserError
from mobilevd.files import atomic_folder, atomic_write_bytes, atomic_write_json, sha256_file
from mobilevd.unet import SpatioTemporalUNet

SCHEMA_VERSION = 1
TARGETS = {"executorch-xnnpack": ("fp32",)}
"""What can be exported: target -> its precisions."""
INPUT_NAMES: tuple[str, ...] = ("noise", "image_latents", "image_embedding")
OUTPUT_NAME = "latents"
TOOLS = ("torch", "executorch", "diffusers", "mobilevd")
NOISE_SEED = 0  # of the inputs that parity is checked on, besides the given ones


def export_bundle(
    unet: SpatioTemporalUNet,
    out: Path | str,
    *,
    name: str,
    sigma: float,
    fps: float,
    motion_bucket_id: float,
    noise_aug_strength: float,
    latent_height: int,
    latent_width: int,
    num_frames: int,
    spatial_factor: int = 8,
    inputs: Mapping[str, Tensor] | None = None,
    target: str = "executorch-xnnpack",
    precision: str = "fp32",
    flops: int | None = None,
    parameters: int | None = None,
) -> dict[str, Any]:
    """Export the one-step generator of `unet`, prove it equal to the model, and write the bundle folder `out`.

    Args:
        unet: a finished model; it is left as it is.
        out: replaced as a whole if it exists; on any failure it stays as it was.
        name: of the bundle, for tables.
        sigma, fps, motion_bucket_id, noise_aug_strength: constants of the program (`OneStepGenerator`).
        latent_height, latent_width, num_frames: the program's only size.
        spatial_factor: pixels per latent, to record the size of the frames.
        inputs: real `image_latents` (1, 4, h, w) and `image_embedding` (1, 1, D), and `noise` (T, 4, h, w) if wanted;
            parity is checked on them too, and they become the bundle's reference. None: noise alone.
        target, precision: see `TARGETS`.
        flops, parameters: for the manifest; parameters are counted if not given.

    Returns:
        The manifest.

    Raises:
        UserError: unknown target or precision, unfinished model, size that does not fit the model, wrong inputs, or
            parity below the gate of the precision.
    """
    check_target(target, precision)
    unet.check_size(num_frames, latent_height, latent_width)
    was_training = unet.training
    generator = OneStepGenerator(unet.eval(), sigma, fps, motion_bucket_id, noise_aug_strength, num_frames)
    try:
        cases = _cases(unet, inputs, num_frames, latent_height, latent_width)
        with torch.no_grad():
            references = {kind: generator(*tensors.values()) for kind, tensors in cases.items()}
    finally:
        unet.train(was_training)
    generator.unet = fold_for_phone(unet, generator.embedding)
    example = tuple(cases["noise"].values())
    try:
        program = lower_to_xnnpack(generator, example)
    except NotDelegated:
        program = lower_by_partitioner(generator, example)  # the manifest will name what stayed outside
    del generator
    gate = GATES_DB[precision]
    with atomic_folder(out) as folder:
        atomic_write_bytes(folder / "unet.pte", program)
        checks = {}
        for kind, tensors in cases.items():
            output = run_program(folder / "unet.pte", list(tensors.values()))[0]
            checks[kind] = compare(output, references[kind])
            _check_gate(checks[kind], gate, kind, name, precision)
        kind = "latents" if "latents" in cases else "noise"
        listed_inputs = [_write_tensor(folder, key, tensor) for key, tensor in cases[kind].items()]
        listed_output = {**_write_tensor(folder, OUTPUT_NAME, references[kind]), "min_psnr_db": gate}
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "target": target,
            "precision": precision,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "programs": {
                "unet": {
                    "file": "unet.pte",
                    "method": "forward",
                    "inputs": listed_inputs,
                    "outputs": [listed_output],
                    "parity": {
                        **vars(checks[kind]),
                        "inputs": kind,
                        "checks": [{"inputs": key, **vars(check)} for key, check in checks.items()],
                    },
                    "delegation": delegation_of(program).to_json(),
                }
            },
            "model": {
                "parameters": parameters or sum(p.numel() for p in unet.parameters()),
                "flops": flops,
                "num_frames": num_frames,
                "height": latent_height * spatial_factor,
                "width": latent_width * spatial_factor,
                "fps": fps,
                "latent_height": latent_height,
                "latent_width": latent_width,
                "sigma": sigma,
                "motion_bucket_id": motion_bucket_id,
                "noise_aug_strength": noise_aug_strength,
            },
            "files": {
                str(file.relative_to(folder)): {"sha256": sha256_file(file), "size_bytes": file.stat().st_size}
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            },
            "tools": {"python": platform.python_version(), **{tool: _version(tool) for tool in TOOLS}},
        }
        atomic_write_json(folder / "manifest.json", manifest)
    return manifest


def check_target(target: str, precision: str) -> None:
    """Raise UserError, listing the known ones, for a target or precision that cannot be exported."""
    if target not in TARGETS:
        raise UserError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
    if precision not in TARGETS[target]:
        raise UserError(f"target {target} has no precision {precision!r}; it has {', '.join(TARGETS[target])}")


def _cases(
    unet: SpatioTemporalUNet, inputs: Mapping[str, Tensor] | None, num_frames: int, height: int, width: int
) -> dict[str, dict[str, Tensor]]:
    """The inputs that parity is checked on, by kind: "noise", and "latents" if real ones are given."""
    channels = int(unet.config["out_channels"])
    context = unet.config["cross_attention_dim"]
    shapes = {
        "noise": (num_frames, channels, height, width),
        "image_latents": (1, int(unet.config["in_channels"]) - channels, height, width),
        "image_embedding": (1, 1, context if isinstance(context, int) else context[0]),
    }
    random = torch.Generator().manual_seed(NOISE_SEED)
    noise = {key: torch.randn(shapes[key], generator=random) for key in INPUT_NAMES}
    if inputs is None:
        return {"noise": noise}
    if unknown := set(inputs) - set(INPUT_NAMES):
        raise UserError(f"export: unknown input {sorted(unknown)[0]!r}; the program takes {', '.join(INPUT_NAMES)}")
    latents = {}
    for key in INPUT_NAMES:
        tensor = inputs.get(key, noise["noise"] if key == "noise" else None)
        if tensor is None:
            raise UserError(f"export: the input {key} is missing; real inputs need image_latents and image_embedding")
        if tuple(tensor.shape) != shapes[key]:
            raise UserError(f"export: the input {key} has shape {tuple(tensor.shape)}, the program's is {shapes[key]}")
        latents[key] = tensor.detach().to("cpu", torch.float32).contiguous()
    return {"noise": noise, "latents": latents}


def _check_gate(check: Parity, gate: float, kind: str, name: str, precision: str) -> None:
    if check.psnr_db < gate:
        raise UserError(
            f"export of {name}: the program's output on {kind} is {check.psnr_db:.1f} dB PSNR from the model's, below "
            f"the {gate:.0f} dB that {precision} must reach (largest error {check.max_abs_error:.2g}); nothing was written"
        )


def _write_tensor(folder: Path, name: str, tensor: Tensor) -> dict[str, Any]:
    """Write a reference tensor, little-endian in C order; returns its entry of the manifest."""
    path = f"reference/unet.{name}.bin"
    atomic_write_bytes(folder / path, tensor.contiguous().numpy().astype("<f4").tobytes())
    return {"name": name, "shape": list(tensor.shape), "dtype": "float32", "file": path}


def _version(tool: str) -> str:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
