"""What needs the models' files and PyTorch to be told: weights that are another model's, stages that cannot be or fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from device_runner.devices.kinds import open_device
from device_runner.errors import RunnerError
from device_runner.runners.choose import check_runner
from eval.features import load_extractor
from mobilevd.codecs import load_codec
from mobilevd.codecs.base import Codec
from mobilevd.codecs.fits import check_fits
from mobilevd.config.schema import RunConfig
from mobilevd.config.training import HardwareSettings
from mobilevd.errors import UserError
from mobilevd.model.checkpoint import build_model, check_shapes
from mobilevd.model.model_place import model_folder
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.model.weight_files import shapes_in, weight_files
from mobilevd.pipeline.export_and_measure import HOST
from mobilevd.pipeline.export_choices import check_choices, export_choices, measured_on_host
from mobilevd.pipeline.rows import Entry, check_claims, plan_entries
from mobilevd.pipeline.run_folder import check_run_files
from mobilevd.quick_checks import quick_problems
from mobilevd.transforms.rehearsal import rehearse_stages
from training.observe.trackers import check_trackers
from training.plan.fit import check_memory
from training.plan.machine import launched_processes, machine_of
from training.plan.memory import check_stage


@dataclass(frozen=True)
class CheckedRun:
    """What the checks had to load or make, and a run goes on with.

    Attributes:
        codec: on the CPU.
        entries: the rows of the run.
    """

    codec: Codec
    entries: list[Entry]


def check_run(config: RunConfig, trusted: str | None = None, for_training: bool = False) -> CheckedRun:
    """Check all that can be known before a run writes anything.

    Args:
        trusted: SHA-256 of a TorchScript file that may be loaded (`eval.networks.i3d_torchscript`).
        for_training: leaves out what only measuring needs.

    Raises UserError with a line for each problem that is found.
    """
    problems = quick_problems(config, for_training)
    if problems:
        raise UserError("\n".join(problems))

    def told(check: Callable[[], object]) -> None:
        try:
            check()
        except (UserError, RunnerError) as error:
            problems.extend(line for line in str(error).splitlines() if line not in problems)

    told(lambda: check_trackers(config.tracking.trackers))
    if not for_training:
        told(lambda: check_choices(config.export))
        told(lambda: _check_bench(config))
    told(lambda: load_extractor(config.evaluation.features, trusted=trusted))
    codec = _loaded(config, problems)
    entries: list[Entry] = []
    if codec is not None:
        told(lambda: _check_base(config, codec))
        told(lambda: rehearse_stages(config, config.base.model, codec.spatial_factor))
        told(lambda: entries.extend(plan_entries(config, codec)))
    told(lambda: _check_training(config))
    told(lambda: check_run_files(config.output))
    told(lambda: check_claims(entries))
    if problems or codec is None:
        raise UserError("\n".join(problems))
    return CheckedRun(codec, entries)


def _loaded(config: RunConfig, problems: list[str]) -> Codec | None:
    try:
        return load_codec(config.base.codec)
    except UserError as error:
        problems.append(str(error))
        return None


def _check_base(config: RunConfig, codec: Codec) -> None:
    """Raise UserError unless the base's weights are those of its config, and the codec is one for it."""
    folder = model_folder(config.base.model)
    with torch.device("meta"):
        unet = build_model(SpatioTemporalUNet, folder)
    shapes = shapes_in(weight_files(folder))
    if shapes is None:  # pickled: what is in it is known only when it is loaded
        SpatioTemporalUNet.from_pretrained(folder)
    else:
        check_shapes(unet, shapes, folder)
    check_fits(codec, config.base.codec, unet.config)


def _check_bench(config: RunConfig) -> None:
    """Raise UserError or RunnerError for a device that is not there, and for programs that it cannot measure.

    A phone measures the first program of a stage, and this host the first that runs here.
    """
    device = open_device(config.bench.device)
    device.platform()
    if config.export.stages == "none":
        return
    choices = export_choices(config.export)
    if (on_host := measured_on_host(choices)) is not None:
        check_runner(on_host.target.name, open_device(HOST))
    if device.name != HOST:
        check_runner(choices[0].target.name, device)


def _check_training(config: RunConfig) -> None:
    machine = machine_of(HardwareSettings(), launched_processes())
    for stage in config.stages:
        if stage.objective.trains:
            check_stage(stage.training, machine)
    if machine.gpu:  # on a processor the plan takes longer than a small training, and memory is not its limit
        check_memory(config)
