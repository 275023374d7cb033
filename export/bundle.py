"""The bundle: exported programs with one manifest, reference tensors and proofs, written whole or not at all."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
from torch import Tensor

from device_runner.bundle.gates import GATES_DB, MARGIN_DB
from device_runner.bundle.manifest import (
    MANIFEST,
    FileEntry,
    GraphEntry,
    Manifest,
    ModelEntry,
    OutputEntry,
    ParityEntry,
    ProgramEntry,
    QuantizationEntry,
    TensorEntry,
)
from device_runner.bundle.whole_path import PipelineEntry
from export.bundle_folder import foreign_to_bundle
from export.generator.one_step import OneStepSettings
from export.generator.unet_program import unet_program
from export.profile.origins import origins_file
from export.program.layer_precision import LayerPrecisions
from export.program.program import Program
from export.proof.builds import BuildUnavailable, RunInBuild, prove_in_builds
from export.proof.half import check_half_gate, half_entry, prove_in_half
from export.proof.prove import check_gate, not_executed_entry, parity_entry, prove, worst_on_reference
from export.targets import parse_target
from export.targets.base import Target, program_size
from mobilevd.files import atomic_folder, atomic_write_bytes, atomic_write_json, sha256_file
from mobilevd.model.unet import SpatioTemporalUNet


def export_bundle(
    unet: SpatioTemporalUNet,
    out: Path | str,
    settings: OneStepSettings,
    *,
    name: str,
    target: str = "executorch-xnnpack",
    precision: str | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    calibration: Sequence[Mapping[str, Tensor]] = (),
    flops: int | None = None,
    allow_low_parity: bool = False,
    run_in_build: RunInBuild | None = None,
) -> Manifest:
    """Export the one-step generator of `unet`, prove it equal to the model, and write the bundle folder `out`.

    Args:
        unet: a finished model; it is not changed.
        out: the bundle folder, replaced as a whole if it exists; on any failure it stays as it was.
        name: name of the bundle, for tables.
        target: `NAME` or `NAME:PRECISION` (`export/targets/`).
        precision: None takes the target's default.
        inputs, calibration: real inputs, see `unet_program`; `inputs` become the bundle's reference.
        flops: FLOPs of one evaluation, for the manifest.
        allow_low_parity: write the bundle even if its parity is below the precision's threshold.
        run_in_build: see `write_bundle`.

    Returns:
        The manifest.

    Raises:
        UserError: unknown target or precision, unfinished model, size that does not fit the model, wrong inputs, or
            parity below the precision's threshold.
    """
    chosen, chosen_precision = parse_target(target, precision)
    chosen.check_available()
    program = unet_program(unet, settings, inputs, calibration)
    model = describe_model(unet, settings, flops)
    item = Item(program, chosen_precision)
    return write_bundle(
        [item],
        chosen,
        out,
        name=name,
        model=model,
        allow_low_parity=allow_low_parity,
        run_in_build=run_in_build,
    )


@dataclass(frozen=True)
class Item:
    """A program that goes into a bundle.

    Attributes:
        precision: one of the target's precisions.
        layers: submodules with another precision.
        gate_db: least PSNR of its outputs; None takes the threshold of the precision.
    """

    program: Program
    precision: str
    layers: LayerPrecisions | None = None
    gate_db: float | None = None


def describe_model(unet: SpatioTemporalUNet, settings: OneStepSettings, flops: int | None) -> ModelEntry:
    """The manifest's `model` entry."""
    factor = settings.spatial_factor
    return ModelEntry(
        parameters=sum(p.numel() for p in unet.parameters()),
        flops=flops,
        num_frames=settings.num_frames,
        height=settings.latent_height * factor,
        width=settings.latent_width * factor,
        fps=settings.fps,
        latent_height=settings.latent_height,
        latent_width=settings.latent_width,
        sigma=settings.sigma,
        motion_bucket_id=settings.motion_bucket_id,
        noise_aug_strength=settings.noise_aug_strength,
        conditioning_inputs=settings.conditioning_inputs,
    )


def write_bundle(
    items: Sequence[Item],
    target: Target,
    out: Path | str,
    *,
    name: str,
    model: ModelEntry,
    graph: GraphEntry | None = None,
    calibration_inputs: int | None = None,
    quantization: QuantizationEntry | None = None,
    pipeline: PipelineEntry | None = None,
    allow_low_parity: bool = False,
    run_in_build: RunInBuild | None = None,
) -> Manifest:
    """Lower programs to one target, prove them, and write them as the bundle folder `out`.

    Args:
        items: the programs; the first gives the bundle its precision.
        model, graph, calibration_inputs, quantization, pipeline: entries of the manifest.
        run_in_build: runs programs in the runtime as applications build it; None leaves that proof out.

    Raises:
        UserError: see `export_bundle`; the folder is then as it was.
    """
    with atomic_folder(out, foreign_to_bundle) as folder:
        entries = {
            item.program.name: _write_program(item, target, folder, allow_low_parity, run_in_build) for item in items
        }
        manifest = Manifest(
            name=name,
            target=target.name,
            precision=items[0].precision if not items[0].layers else "mixed",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            programs=entries,
            model=model,
            graph=graph,
            calibration_inputs=calibration_inputs,
            quantization=quantization,
            pipeline=pipeline,
            files={
                file.relative_to(folder).as_posix(): FileEntry(sha256_file(file), file.stat().st_size)
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            },
            tools={
                "python": platform.python_version(),
                **{tool: _version(tool) for tool in dict.fromkeys(("torch", *target.tools, "diffusers", "mobilevd"))},
            },
        )
        content = manifest.to_json()
        Manifest.from_json(content, out)  # what nobody could read is not written
        atomic_write_json(folder / MANIFEST, content)
    return manifest


def _write_program(
    item: Item, target: Target, folder: Path, allow_low_parity: bool, run_in_build: RunInBuild | None
) -> ProgramEntry:
    """Lower, prove and write one program with its reference tensors; return its manifest entry."""
    program, precision, layers = item.program, item.precision, item.layers
    gate = GATES_DB.get(precision, 0.0) if item.gate_db is None else item.gate_db
    half = prove_in_half(program, target, precision, layers)
    if half is not None and not allow_low_parity:
        check_half_gate(program, target, precision, half, gate)
    file = folder / f"{program.name}{target.suffix}"
    started = time.perf_counter()
    delegation = target.lower(program, precision, file, layers)
    lowering_s = time.perf_counter() - started
    if target.not_executed is None:
        checks = prove(program, target, file)
        if not allow_low_parity:
            check_gate(program, target, precision, layers, checks, gate)
        parity = parity_entry(checks, program.outputs, target.arithmetic(precision, layers))
        gate = min(gate, worst_on_reference(checks).psnr_db - MARGIN_DB)
        if target.has_weight_cache:
            parity = _with_builds(parity, program, target, file, run_in_build, gate, allow_low_parity)
    else:
        parity = not_executed_entry(target.not_executed)
    if half is not None:
        parity = replace(parity, half=half_entry(half, program.outputs))
        gate = min(gate, worst_on_reference(half.checks).psnr_db - MARGIN_DB)
    kind = list(program.cases)[-1]
    places = origins_file(file)
    inputs = [_write_tensor(folder, program.name, key, value) for key, value in program.cases[kind].items()]
    references = zip(program.outputs, program.references[kind], strict=True)
    outputs = [_write_tensor(folder, program.name, key, value) for key, value in references]
    return ProgramEntry(
        file=file.name,
        method="forward",
        places=places.name if places.is_file() else None,
        precision=precision,
        layers=dict(layers or {}),
        size_bytes=program_size(file),
        inputs=tuple(inputs),
        outputs=tuple(OutputEntry(**vars(output), min_psnr_db=gate) for output in outputs),
        parity=parity,
        delegation=delegation.entry(),
        lowering_s=round(lowering_s, 2),
        peak_memory_mb=round(peak_memory_mb()),
    )


def _with_builds(
    parity: ParityEntry,
    program: Program,
    target: Target,
    file: Path,
    run: RunInBuild | None,
    gate_db: float,
    allow_low_parity: bool,
) -> ParityEntry:
    """The entry with the program's outputs in other builds of the runtime, or the reason why there are none."""
    if run is None:
        return replace(parity, builds_reason="not tried: the exporting program gave no runner")
    try:
        return replace(parity, builds=prove_in_builds(program, target, file, run, gate_db, allow_low_parity))
    except BuildUnavailable as reason:
        return replace(parity, builds_reason=f"not tried: {reason}")


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if psutil.MACOS else peak / 2**10


def _write_tensor(folder: Path, program: str, name: str, tensor: Tensor) -> TensorEntry:
    """Write a reference tensor, little-endian in C order; return its manifest entry."""
    path = f"reference/{program}.{name}.bin"
    atomic_write_bytes(folder / path, tensor.contiguous().numpy().astype("<f4").tobytes())
    return TensorEntry(name, tuple(tensor.shape), "float32", path)


def _version(tool: str) -> str:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
