"""`mobilevd run --dry-run`: every stage at its real size, without weights, if the base model is at hand."""

from __future__ import annotations

from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError


def check_plan(config: RunConfig) -> str:
    """Rehearse all stages, and plan their memory and work; return what there is to say of it.

    Raises UserError, naming the key, for a stage that cannot be or does not fit, with the smallest change that would do.
    """
    for key, place in (("base.model", config.base.model), ("base.codec", config.base.codec)):
        if not place.exists():
            return f"# sizes were not checked: {key}: {place} does not exist (its config.json is enough)"
    from training.plan.fit import run_of  # only here: PyTorch takes seconds to import

    run = run_of(config)
    fits = f"# every stage fits {config.data.num_frames} frames at its size"
    if not run.trained:
        return fits
    return "\n".join([fits, "#", *(f"# {line}".rstrip() for line in _plan(config))])


def _plan(config: RunConfig) -> list[str]:
    """The tables of memory and work. UserError, for all stages together, if one does not fit."""
    from mobilevd.commands.plan_table import PlanRow, memory_table, work_table
    from training.plan.fit import fitting, run_of
    from training.plan.machine import launched_processes, machine_of
    from training.plan.work import encoding_work, evaluation_work, stage_work

    run, machine = run_of(config), machine_of(config.hardware, launched_processes())
    rows, problems = [], []
    for planned in run.trained:
        try:
            micro_batch, memory = fitting(run, planned, machine)
        except UserError as error:
            problems.append(str(error))
            continue
        settings = planned.stage.training
        work = stage_work(run, planned, micro_batch, machine)
        rows.append(PlanRow(planned.stage.name, settings.batch_size, micro_batch, memory, settings.steps, work))
    if problems:
        raise UserError("\n".join(problems))
    limits = [planned.stage.training.latent_clips for planned in run.trained]
    clips = max((limit for limit in limits if limit is not None), default=1000)
    others = {
        f"encoding {clips} clips": encoding_work(run, clips, machine),
        "evaluation": evaluation_work(run, machine),
    }
    return [
        *memory_table(rows, machine),
        "",
        *work_table(rows, others, machine, config.hardware.utilization),
    ]
