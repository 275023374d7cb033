"""What the command line calls: `mobilevd export MODEL --target T --out DIR`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from export.bundle import describe_model, write_bundle
from export.one_step import OneStepSettings, check_finished
from export.targets import parse_target
from export.unet_program import folding_report, unet_program
from mobilevd.errors import UserError
from mobilevd.flops import count_flops
from mobilevd.transforms.resolution import latent_size
from mobilevd.unet import SpatioTemporalUNet

MOBILEVD_LATENTS = (32, 64)


def export_model(
    model_folder: Path | str,
    targets: Sequence[str],
    out: Path | str,
    *,
    precision: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
    allow_low_parity: bool = False,
    console: Console | None = None,
) -> dict[str, dict[str, Any]]:
    """Export a model folder to bundles and print what came out.

    One target is written to `out` itself, several to `out/TARGET-PRECISION`. All targets are checked before the first is
    exported; one whose tools are missing on this machine does not keep the others from coming out.

    Args:
        targets: each `NAME` or `NAME:PRECISION`.
        precision: for targets without one of their own; None takes each target's default.
        conditioning: fields of `OneStepSettings` that differ from the defaults; None among them is no difference.

    Returns:
        The manifests, by folder name.

    Raises:
        UserError: see `export_bundle`; and at the end, naming the targets that could not be exported.
    """
    console = console or Console()
    chosen = list(dict.fromkeys(parse_target(target, precision) for target in targets))
    unet = SpatioTemporalUNet.from_pretrained(model_folder)
    check_finished(unet)
    changes = {key: value for key, value in (conditioning or {}).items() if value is not None}
    settings = replace(default_settings(unet), **changes)
    manifests: dict[str, dict[str, Any]] = {}
    failures: list[str] = []
    with console.status(f"folding {model_folder}"):
        program = unet_program(unet, settings)
        graph = folding_report(unet, program)
        flops = count_flops(unet, settings.num_frames, settings.latent_height, settings.latent_width).flops
    print_folding(graph, console)
    for target, own_precision in chosen:
        folder = Path(out) if len(chosen) == 1 else Path(out) / f"{target.name}-{own_precision}"
        try:
            with console.status(f"exporting {model_folder} to {target.name}, {own_precision}"):
                target.check_available()
                manifest = write_bundle(
                    [(program, own_precision, None)],
                    target,
                    folder,
                    name=Path(model_folder).resolve().name,
                    model=describe_model(unet, settings, flops),
                    more={"graph": graph},
                    allow_low_parity=allow_low_parity,
                )
        except UserError as error:
            if len(chosen) == 1:
                raise
            failures.append(f"{target.name} {own_precision}: {error}")
            console.print(f"[red]{escape(failures[-1])}[/red]", soft_wrap=True)
            continue
        manifests[folder.name] = manifest
        print_manifest(manifest, folder, console)
    if failures:
        raise UserError(f"{len(failures)} of {len(chosen)} targets did not come out:\n" + "\n".join(failures))
    return manifests


def default_settings(unet: SpatioTemporalUNet) -> OneStepSettings:
    """The model's own size and number of frames (MobileVD's 512x256 pixels if it records none), SVD's conditioning."""
    height, width = latent_size(unet) or MOBILEVD_LATENTS
    return OneStepSettings(height, width, int(unet.config["num_frames"]))


def print_folding(graph: dict[str, dict[str, int]], console: Console) -> None:
    """One line: what folding constants saved."""
    before, after = graph["before"], graph["after"]
    console.print(
        f"one-step graph: {before['operators']} operators and {before['flops'] / 1e9:.3f} GFLOPs before folding, "
        f"{after['operators']} and {after['flops'] / 1e9:.3f} after"
    )


def print_manifest(manifest: dict[str, Any], folder: Path, console: Console) -> None:
    """A bundle's summary: size, parity and delegation of each program, and what it took."""
    table = Table(title=f"{folder}: {manifest['target']}, {manifest['precision']}")
    for column in (
        "program",
        "precision",
        "MB",
        "inputs",
        "PSNR dB",
        "SNR dB",
        "max error",
        "delegates",
        "inside",
        "s",
    ):
        table.add_column(column, justify="left" if column in ("program", "inputs") else "right")
    for name, program in manifest["programs"].items():
        _add_rows(table, name, program)
    console.print(table)
    for name, program in manifest["programs"].items():
        for outside in program["delegation"]["operators_outside"]:
            shapes = ", ".join("x".join(map(str, shape)) for shape in outside["shapes"][0])
            console.print(f"  outside the delegates of {name}: {outside['op']} x{outside['count']} ({shapes})")
        if not program["parity"]["executed_here"]:
            console.print(f"  {name}: {program['parity']['reason']}")
    peak = max(program["peak_memory_mb"] for program in manifest["programs"].values())
    console.print(f"  peak memory of the process: {peak / 1000:.1f} GB")


def _add_rows(table: Table, name: str, program: dict[str, Any]) -> None:
    delegation = program["delegation"]
    where = (
        str(delegation["delegates"]),
        f"{delegation['operator_share']:.0%} ops, {delegation['flops_share']:.0%} FLOPs",
        f"{program['lowering_s']:.1f}",
    )
    first = (name, program["precision"], f"{program['size_bytes'] / 1e6:.1f}")
    for check in program["parity"].get("checks", [None]):
        if check is None:
            figures = ("", "not run here", "", "")
        else:
            figures = (
                check["inputs"], f"{check['psnr_db']:.1f}", f"{check['snr_db']:.1f}", f"{check['max_abs_error']:.1e}"
            )  # fmt: skip
        table.add_row(*first, *figures, *where)
        first, where = ("", "", ""), ("", "", "")
