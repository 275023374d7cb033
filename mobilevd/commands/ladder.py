"""`mobilevd ladder`: compares one trained stage in every precision, by size, parity, distance and latency."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from device_runner.bundle.whole_path import UNET
from device_runner.measure.measure import measure
from device_runner.protocol.protocol import Protocol
from eval.features import FeatureExtractor, load_extractor
from export.bundle import Item, describe_model, write_bundle
from export.bundle_folder import foreign_to_bundle
from export.generator.unet_program import unet_program
from export.mixed_precision.search import Goal, find_mixed
from export.program.program import Program
from export.targets import parse_target
from export.targets.base import Target
from mobilevd.codecs import load_codec
from mobilevd.commands.ladder_display import print_ladder, write_ladder_plot
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.folder_lock import hold_folder
from mobilevd.json_files import load_json
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import prepare_clips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.evaluate import Evaluator, Sampler, sampler_of
from mobilevd.pipeline.export_and_measure import settings_of
from mobilevd.pipeline.pictures import encode_images, find_images, own_images, read_images
from mobilevd.pipeline.record import record_of
from mobilevd.pipeline.rows import Entry, plan_entries
from mobilevd.pipeline.shown_clips import program_sampler
from mobilevd.places import begins_with, check_output_file, check_output_folder, is_json_with
from mobilevd.terminal import TerminalConsole
from mobilevd.typed_paths import find_near

TARGETS = tuple(f"executorch-xnnpack:{precision}" for precision in ("fp32", "fp16", "int8", "8da8w", "8da4w"))
ROUNDS = 3
MIXED_DB = (60.0, 50.0)  # least PSNR of the mixed precisions on the ladder


def measure_ladder(
    run_folder: Path,
    stage: str | None = None,
    targets: Sequence[str] = TARGETS,
    mixed_db: Sequence[float] = MIXED_DB,
    console: Console | None = None,
    trusted: str | None = None,
) -> dict[str, Any]:
    """Export a one-step stage of a run in every precision, and measure size, parity, distance and host latency of each.

    The results are written to `STAGE/ladder/`: the bundles, ladder.json and ladder.png. Latencies are taken in turns,
    three rounds, so that other load on the machine affects all programs alike. The PyTorch model is the first row.

    Args:
        stage: its name; None takes the last one-step stage.
        targets: `NAME:PRECISION` of targets that run on this host.
        mixed_db: least PSNR of each mixed precision from four bits upwards; each is a row of its own.
        trusted: SHA-256 of a TorchScript file that may be loaded (`eval.networks.i3d_torchscript`).

    Raises:
        UserError: not a finished run, an unknown stage or one that is not one-step, a target that cannot run here.
    """
    display = Display(console or TerminalConsole())
    chosen = [parse_target(target) for target in targets]
    for target, _ in chosen:
        if target.not_executed is not None:
            raise UserError(f"target {target.name} cannot be on the ladder: {target.not_executed}")
    config = _read_config(run_folder)
    with hold_folder(run_folder):
        return _measure(
            config, stage, chosen, mixed_db, display, load_extractor(config.evaluation.features, trusted=trusted)
        )


def _measure(
    config: RunConfig,
    stage: str | None,
    chosen: Sequence[tuple[Target, str]],
    mixed_db: Sequence[float],
    display: Display,
    extractor: FeatureExtractor,
) -> dict[str, Any]:
    codec = load_codec(config.base.codec)
    entry = _find_entry(plan_entries(config, codec), stage)
    evaluator = Evaluator.of(config, extractor, codec, prepare_clips(config, display))
    unet = SpatioTemporalUNet.from_pretrained(entry.model)
    settings = settings_of(unet, record_of(config, entry), codec)
    place = own_images(entry.model, config.model_dump(mode="json"))
    images = read_images(find_images(place), entry.height, entry.width) if place else []
    encoded = encode_images(images, codec, settings.fps, settings.motion_bucket_id, settings.noise_aug_strength)
    program = unet_program(unet, settings, encoded[0] if encoded else None, encoded[1:])
    folder = entry.folder / "ladder"
    _check_places(folder, chosen, mixed_db)
    model = describe_model(unet, settings, None)
    rows = [_evaluated(evaluator, entry, sampler_of(config, entry, unet), display, {"name": "PyTorch, fp32"})]
    items = [(target, f"{target.name} {precision}", Item(program, precision)) for target, precision in chosen]
    items += [_mixture(program, least, display) for least in mixed_db]
    for target, name, item in items:
        bundle = folder / _folder_name(name)
        with display.bar(f"exporting {name}"):
            manifest = write_bundle([item], target, bundle, name=name, model=model, allow_low_parity=True)
        program_entry = manifest.programs[UNET]
        row = {
            "name": name,
            "bundle": bundle.name,
            "target": target.name,
            "precision": manifest.precision,
            "size_mb": program_entry.size_mb,
            "psnr_db": program_entry.parity.psnr_db,
            "half_psnr_db": None if program_entry.parity.half is None else program_entry.parity.half.psnr_db,
            "layers_kept_higher": len(item.layers or {}),
        }
        rows.append(_evaluated(evaluator, entry, program_sampler(target, bundle / program_entry.file), display, row))
    _measure_in_turns(rows, folder, config, display)
    protocol = [row.pop("protocol") for row in rows][0]
    result = {
        "run": config.name,
        "stage": entry.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "protocol": protocol,
        "rows": rows,
    }
    atomic_write_json(folder / "ladder.json", result)
    write_ladder_plot(folder / "ladder.png", result)
    print_ladder(result, display.console)
    display.line(f"figures: {folder / 'ladder.json'}   plot: {folder / 'ladder.png'}")
    return result


def _check_places(folder: Path, chosen: Sequence[tuple[Target, str]], mixed_db: Sequence[float]) -> None:
    """Raise UserError, before hours of work, if a bundle or the figures would replace something else."""
    for name in [*(f"{target.name} {precision}" for target, precision in chosen), *map(_mixture_name, mixed_db)]:
        check_output_folder(folder / _folder_name(name), foreign_to_bundle)
    check_output_file(folder / "ladder.json", is_json_with("stage", "rows"), "the figures of a ladder")
    check_output_file(folder / "ladder.png", begins_with(b"\x89PNG"), "the plot of a ladder")


def _folder_name(name: str) -> str:
    return name.replace(" ", "-")


def _mixture_name(least_db: float) -> str:
    return f"executorch-xnnpack mixed {least_db:g} dB"


def _read_config(run_folder: Path) -> RunConfig:
    file = run_folder / "config.json"
    try:
        config = RunConfig.model_validate(load_json(file))
    except FileNotFoundError:
        raise UserError(f"{file}: not there; give the folder of a run (`mobilevd run` makes one)") from None
    except ValueError as error:
        raise UserError(f"{file}: not the configuration of a run ({error})") from None
    config.output = run_folder  # wherever it was moved to
    config.base.model, config.base.codec = (find_near(file, each) for each in (config.base.model, config.base.codec))
    return config


def _find_entry(entries: list[Entry], stage: str | None) -> Entry:
    usable = [entry for entry in entries if entry.stage is not None and entry.one_step and entry.is_trained]
    if stage is not None:
        usable = [entry for entry in usable if entry.name == stage]
    if not usable:
        known = ", ".join(entry.name for entry in entries if entry.stage is not None and entry.one_step)
        raise UserError(f"{stage or 'the run'}: no trained one-step stage of this run (its one-step stages: {known})")
    return usable[-1]


def _mixture(program: Program, least_db: float, display: Display) -> tuple[Target, str, Item]:
    target, base = parse_target("executorch-xnnpack:8da4w")
    with display.bar(f"choosing layers for {least_db:g} dB") as bar:
        mixed = find_mixed(program, target, base, Goal(min_psnr_db=least_db), bar.update)
    return target, _mixture_name(least_db), Item(program, base, mixed.layers, least_db)


def _evaluated(
    evaluator: Evaluator, entry: Entry, sample: Sampler, display: Display, row: dict[str, Any]
) -> dict[str, Any]:
    count = evaluator.config.evaluation.clips * evaluator.config.evaluation.seeds
    with display.bar(f"judging {row['name']}", count) as bar:
        result = evaluator.compare(entry, sample, lambda done: bar.update(done, count)).figures
    return {**row, **{key: result[key] for key in ("distance", "distance_name", "motion_ratio", "protocol")}}


def _measure_in_turns(rows: list[dict[str, Any]], folder: Path, config: RunConfig, display: Display) -> None:
    """Measure the host latency of every .pte bundle: the median of all samples of all rounds."""
    bench = config.bench
    protocol = Protocol(warmup=bench.warmup, iterations=bench.iterations, threads=bench.threads)
    samples: dict[str, list[float]] = {}
    with display.bar("measuring in turns", ROUNDS) as bar:
        for turn in range(ROUNDS):
            for row in rows:
                if str(row.get("target", "")) == "executorch-xnnpack":
                    measured = measure(folder / row["bundle"], "host", protocol).samples_ms
                    samples.setdefault(row["bundle"], []).extend(measured)
            bar.update(turn + 1, ROUNDS)
    for row in rows:
        taken = samples.get(row.get("bundle", ""))
        row["host_ms"] = float(torch.tensor(taken).median()) if taken else None
