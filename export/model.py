"""The export of one model folder to bundles for several targets, as the command line calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor

from device_runner.bundle.manifest import Manifest, QuantizationEntry
from device_runner.bundle.whole_path import PipelineEntry
from export.bundle import Item, describe_model, write_bundle
from export.bundle_folder import foreign_to_bundle
from export.display import print_folding, print_manifest, print_sensitivity
from export.generator.one_step import OneStepSettings, check_finished
from export.generator.unet_program import count_before, folding_report, unet_program
from export.mixed_precision.search import Goal, find_mixed
from export.program.program import Program
from export.proof.builds import RunInBuild
from export.targets import parse_target
from export.targets.base import Target
from mobilevd.errors import UserError
from mobilevd.model.flops import count_flops
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.places import check_output_folder
from mobilevd.terminal import TerminalConsole

MOBILEVD_LATENTS = (32, 64)


@dataclass(frozen=True)
class ExportRequest:
    """The request for an export.

    Attributes:
        targets: each `NAME` or `NAME:PRECISION`.
        precision: precision of the targets that name none; None takes each target's default.
        settings: None takes SVD's micro-conditioning and the model's own size (`default_settings`).
        inputs: real `image_latents` and `image_embedding` to check the programs on.
        calibration: further inputs, to take quantized ranges from.
        others, pipeline: programs around the UNet (codec), and the manifest's entry on how they are connected.
        goal: the goal of a mixed precision; None: every layer has the given precision.
        run_in_build: see `export.bundle.write_bundle`.
    """

    targets: Sequence[str] = ("executorch-xnnpack",)
    precision: str | None = None
    settings: OneStepSettings | None = None
    inputs: Mapping[str, Tensor] | None = None
    calibration: Sequence[Mapping[str, Tensor]] = ()
    others: Sequence[Program] = ()
    pipeline: PipelineEntry | None = None
    goal: Goal | None = None
    allow_low_parity: bool = False
    run_in_build: RunInBuild | None = None


def export_model(
    model_folder: Path | str, out: Path | str, request: ExportRequest, console: Console | None = None
) -> dict[str, Manifest]:
    """Export a model folder to bundles and print a summary of each.

    One target is written to `out` itself, several to `out/TARGET-PRECISION`. All targets are checked before the first
    is exported; a target whose tools are missing on this machine does not prevent the others.

    Returns:
        The manifests, by folder name.

    Raises:
        UserError: see `export_bundle`; and at the end, naming the targets that could not be exported.
    """
    console = console or TerminalConsole()
    chosen = chosen_targets(request.targets, request.precision, request.goal)
    check_bundle_folders(out, chosen, [Path(model_folder)])
    unet = SpatioTemporalUNet.from_pretrained(model_folder)
    check_finished(unet)
    settings = request.settings or default_settings(unet)
    manifests: dict[str, Manifest] = {}
    failures: list[str] = []
    with console.status(f"folding {model_folder}"):
        flops = count_flops(unet, settings.num_frames, settings.latent_height, settings.latent_width).flops
        model, before = describe_model(unet, settings, flops), count_before(unet, settings)
        program = unet_program(unet, settings, request.inputs, request.calibration, consume=True)
        del unet
        graph = folding_report(before, program)
    print_folding(graph, console)
    fixed_ranges = sorted({target.name for target, precision in chosen if precision == "int8" and target.calibrated})
    if fixed_ranges and not request.calibration:
        console.print(
            f"note: int8 of {', '.join(fixed_ranges)} takes its ranges from noise alone; give --images PICTURES (and "
            "--codec) for those of real latents",
            soft_wrap=True,
        )
    for target, precision in chosen:
        folder = bundle_folder(Path(out), target, precision, len(chosen))
        try:
            target.check_available()
            item, quantization = _choose_layers(program, target, precision, request, console)
            with console.status(f"exporting {model_folder} to {target.name}, {precision}"):
                manifest = write_bundle(
                    [item, *(Item(other, _codec_precision(target)) for other in request.others)],
                    target,
                    folder,
                    name=_name(Path(model_folder).resolve()),
                    model=model,
                    graph=graph,
                    calibration_inputs=len(request.calibration),
                    quantization=quantization,
                    pipeline=request.pipeline,
                    allow_low_parity=request.allow_low_parity,
                    run_in_build=request.run_in_build,
                )
        except UserError as error:
            if len(chosen) == 1:
                raise
            failures.append(f"{target.name} {precision}: {error}")
            continue
        manifests[folder.name] = manifest
        print_manifest(manifest, folder, console)
    if failures:
        raise UserError(f"{len(failures)} of {len(chosen)} targets did not come out:\n" + "\n".join(failures))
    return manifests


def bundle_folder(out: Path, target: Target, precision: str, count: int) -> Path:
    """The folder of one of `count` bundles: `out` itself if it is the only one."""
    return out if count == 1 else out / f"{target.name}-{precision}"


def check_bundle_folders(out: Path | str, chosen: Sequence[tuple[Target, str]], inputs: Sequence[Path]) -> None:
    """Raise UserError if a bundle cannot be written, or would replace something else than an earlier bundle."""
    out = Path(out)
    if len(chosen) > 1 and any(given.exists() and out.resolve() == given.resolve() for given in inputs):
        raise UserError(f"{out}: is read by this export; write the bundles to another folder")
    for target, precision in chosen:
        check_output_folder(bundle_folder(out, target, precision, len(chosen)), foreign_to_bundle, inputs)


def default_settings(unet: SpatioTemporalUNet) -> OneStepSettings:
    """The model's own size and number of frames (MobileVD's 512x256 pixels if it records none), SVD's conditioning."""
    height, width = unet.latent_size or MOBILEVD_LATENTS
    return OneStepSettings(height, width, unet.num_frames)


def chosen_targets(targets: Sequence[str], precision: str | None, goal: Goal | None) -> list[tuple[Target, str]]:
    """The targets with their precisions, each once; a mixture of no given precision takes the lowest to be mixed."""
    chosen = []
    for text in targets:
        target, own = parse_target(text, precision)
        if goal is not None and precision is None and ":" not in text and target.ladders:
            own = target.ladders[0][0]
        chosen.append((target, own))
    return list(dict.fromkeys(chosen))


def _name(model_folder: Path) -> str:
    """The bundle's name: that of the model's folder or, in a run, where every folder is called `model`, the stage's."""
    return model_folder.parent.name if model_folder.name == "model" else model_folder.name


def _choose_layers(
    program: Program, target: Target, precision: str, request: ExportRequest, console: Console
) -> tuple[Item, QuantizationEntry | None]:
    """Return the UNet with one precision or mixed under the goal, and the manifest's entry on the mixture."""
    if request.goal is None:
        return Item(program, precision), None
    with console.status("measuring the blocks' sensitivity") as status:
        mixed = find_mixed(
            program,
            target,
            precision,
            request.goal,
            lambda done, total: status.update(f"measuring the blocks' sensitivity: {done}/{total}"),
        )
    print_sensitivity(mixed, console)
    gate = request.goal.min_psnr_db
    return Item(program, mixed.base, mixed.layers, gate), mixed.entry()


def _codec_precision(target: Target) -> str:
    """Precision of the programs around the UNet: fp32 if the target has it, else fp16 (SVD's VAE overflows in half)."""
    return "fp32" if "fp32" in target.precisions else "fp16"
