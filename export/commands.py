"""What the command line calls: `mobilevd export MODEL --target T --out DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from export.bundle import check_target, export_bundle
from export.one_step import check_finished
from mobilevd.transforms.resolution import latent_size
from mobilevd.unet import SpatioTemporalUNet

MOBILEVD_LATENTS = (32, 64)


def export_model(
    model_folder: Path | str,
    targets: Sequence[str],
    out: Path | str,
    *,
    precision: str = "fp32",
    sigma: float = 700.0,
    fps: float = 7,
    motion_bucket_id: float = 127,
    noise_aug_strength: float = 0.02,
    latent_height: int | None = None,
    latent_width: int | None = None,
    num_frames: int | None = None,
    spatial_factor: int = 8,
    console: Console | None = None,
) -> dict[str, dict[str, Any]]:
    """Export a model folder to bundles and print what came out.

    One target is written to `out` itself, several to `out/TARGET`. The defaults are SVD's micro-conditioning and the
    model's own size and number of frames; a model that records no size gets MobileVD's (512x256 pixels).

    Returns:
        The manifests by target.

    Raises:
        UserError: see `export_bundle`; all targets are checked before the first is exported.
    """
    console = console or Console()
    for target in targets:
        check_target(target, precision)
    unet = SpatioTemporalUNet.from_pretrained(model_folder)
    check_finished(unet)
    own = latent_size(unet) or MOBILEVD_LATENTS
    manifests = {}
    for target in dict.fromkeys(targets):
        folder = Path(out) if len(targets) == 1 else Path(out) / target
        with console.status(f"exporting {model_folder} to {target}"):
            manifests[target] = export_bundle(
                unet,
                folder,
                name=Path(model_folder).resolve().name,
                sigma=sigma,
                fps=fps,
                motion_bucket_id=motion_bucket_id,
                noise_aug_strength=noise_aug_strength,
                latent_height=latent_height or own[0],
                latent_width=latent_width or own[1],
                num_frames=num_frames or int(unet.config["num_frames"]),
                spatial_factor=spatial_factor,
                target=target,
                precision=precision,
            )
        print_manifest(manifests[target], folder, console)
    return manifests


def print_manifest(manifest: dict[str, Any], folder: Path, console: Console) -> None:
    """A bundle's summary: size, parity and delegation of each program."""
    table = Table(title=f"{folder}: {manifest['target']}, {manifest['precision']}")
    for column in ("program", "MB", "PSNR dB", "max error", "delegates", "operators outside"):
        table.add_column(column, justify="left" if column == "program" else "right")
    for name, program in manifest["programs"].items():
        size_mb = manifest["files"][program["file"]]["size_bytes"] / 1e6
        parity, delegation = program["parity"], program["delegation"]
        outside = ", ".join(f"{o['op']} x{o['count']}" for o in delegation["operators_outside"]) or "none"
        table.add_row(
            name,
            f"{size_mb:.1f}",
            f"{parity['psnr_db']:.1f}",
            f"{parity['max_abs_error']:.1e}",
            str(delegation["delegates"]),
            outside,
        )
    console.print(table)
