"""What fits: the largest micro-batch, and for what does not fit the smallest change of settings that does."""

from __future__ import annotations

import dataclasses
from typing import Any

from mobilevd.config.schema import RunConfig
from mobilevd.config.training import TrainingSettings
from mobilevd.errors import UserError
from training.plan.machine import Machine, launched_processes, machine_of
from training.plan.memory import GIB, Memory, check_stage, stage_memory
from training.plan.stages import PlannedRun, PlannedStage, key_of, planned_run

CHANGES: tuple[dict[str, Any], ...] = (
    {"micro_batch_size": 1},
    {"gradient_checkpointing": True},
    {"frozen_precision": "bf16"},
    {"optimizer": "adamw-8bit"},
    {"parallel": "fsdp"},
    {"train": "temporal"},
    {"train": "lora"},
)
"""Changes that need less memory: those first that change the least of what is trained, and how fast."""
_runs: dict[str, PlannedRun] = {}


def run_of(config: RunConfig) -> PlannedRun:
    """`planned_run`, remembered."""
    key = key_of(config)
    if key not in _runs:
        _runs[key] = planned_run(config)
    return _runs[key]


def micro_batch(config: RunConfig, stage: str, processes: int, memory_bytes: int) -> int:
    """The most clips in a pass of a stage that fit into a GPU's memory and divide the share of a process.

    Raises UserError, with the smallest change that would do, if not even one fits.
    """
    run = run_of(config)
    machine = Machine("GPU", True, processes, memory_bytes)
    return fitting(run, run.stage(stage), machine)[0]


def fitting(run: PlannedRun, planned: PlannedStage, machine: Machine) -> tuple[int, Memory]:
    """The micro-batch that the settings give or, if they leave it open, the largest that fits; and its memory.

    On a processor a share that is left open is taken whole. Raises UserError as `micro_batch`.
    """
    found = _fitting(run, planned, machine)
    if found is not None:
        return found
    settings, name = planned.stage.training, planned.stage.name
    smallest = settings.micro_batch_size or (1 if machine.gpu else check_stage(settings, machine).clips)
    needed = stage_memory(run, planned, machine, smallest).total
    changes = smallest_change(run, planned, machine)
    told = f"give {' '.join(changes)}" if changes else "no setting makes it fit: take more memory, or a smaller size"
    clips = f"{smallest} clip{'s' if smallest > 1 else ''} in a pass"
    raise UserError(
        f"stages.{name}: training needs {needed / GIB:.1f} GiB with {clips}, and {machine.name} has "
        f"{machine.memory_bytes / GIB:.1f} GiB; {told}"
    )


def _fitting(run: PlannedRun, planned: PlannedStage, machine: Machine) -> tuple[int, Memory] | None:
    settings = planned.stage.training
    share = check_stage(settings, machine)
    if settings.micro_batch_size is not None or not machine.gpu:
        possible = [share.micro_batch]
    else:
        possible = [clips for clips in range(share.clips, 0, -1) if share.clips % clips == 0]
    for clips in possible:  # most often the first fits, and nothing else has to be counted
        memory = stage_memory(run, planned, machine, clips, exact=clips == possible[0])
        if memory.total <= machine.memory_bytes:
            return clips, memory
    return None


def smallest_change(run: PlannedRun, planned: PlannedStage, machine: Machine) -> list[str]:
    """Settings, as `key=value`, with which a stage fits that does not; none if there are none.

    Of the first of `CHANGES` that together do, those that are not needed are left out again.
    """
    taken: list[dict[str, Any]] = []
    for change in CHANGES:
        if not _is_change(planned.stage.training, change, machine):
            continue
        taken = [each for each in taken if not _excludes(change, each)] + [change]
        if _fits(run, planned, machine, taken):
            for each in list(taken[:-1]):
                fewer = [other for other in taken if other is not each]
                if _fits(run, planned, machine, fewer):
                    taken = fewer
            where = f"stages.{planned.stage.name}.training."
            return [f"{where}{key}={_text(value)}" for each in taken for key, value in each.items()]
    return []


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_change(settings: TrainingSettings, change: dict[str, Any], machine: Machine) -> bool:
    ((key, value),) = change.items()
    if key == "parallel" and (machine.processes == 1 or not machine.gpu):
        return False
    return getattr(settings, key) != value


def _excludes(change: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Sharding does not go with 8-bit states, and low-rank additions not with sharding (`check_parallel`)."""
    (key, value), (other,) = next(iter(change.items())), earlier.keys()
    return key == other or (key, other) == ("parallel", "optimizer") or (value == "lora" and other == "parallel")


def _fits(run: PlannedRun, planned: PlannedStage, machine: Machine, changes: list[dict[str, Any]]) -> bool:
    together = {key: value for each in changes for key, value in each.items()}
    settings = planned.stage.training.model_copy(update=together)
    changed = dataclasses.replace(planned, stage=planned.stage.model_copy(update={"training": settings}))
    try:
        return _fitting(run, changed, machine) is not None
    except UserError:  # settings that do not go together
        return False


def check_memory(config: RunConfig, machine: Machine | None = None) -> None:
    """Raise UserError, with the smallest change that would do, unless every stage that trains fits into memory.

    Without a machine it is this one, with the launcher's processes, not the one that the configuration plans for.
    """
    run = run_of(config)
    if machine is None:
        from mobilevd.config.training import HardwareSettings

        machine = machine_of(HardwareSettings(), launched_processes())
    for planned in run.trained:
        fitting(run, planned, machine)
