"""`mobilevd run --dry-run`: the resolved configuration, all that a run checks, and its plan; nothing is written."""

from __future__ import annotations

import typer

from mobilevd.config.plan import describe_plan
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.quick_checks import quick_problems


def dry_run_command(config: RunConfig, trusted: str | None = None, from_stage: str | None = None) -> None:
    """Print the configuration and the plan, and check what `run` checks before it writes anything.

    The plan of memory and work needs the models' configs alone, and is printed even where a run would be refused.

    Args:
        trusted: SHA-256 of a TorchScript file that may be loaded (`eval.networks.i3d_torchscript`).
        from_stage: a stage that would be made anew with those after it.

    Raises UserError with a line for each problem.
    """
    typer.echo(describe_plan(config))
    too_large = None
    if config.base.model.exists() and config.base.codec.exists():
        try:
            typer.echo(check_plan(config))
        except UserError as error:
            too_large = error  # that is of the planned machine; first what a run would say here
    elif problems := quick_problems(config):
        raise UserError("\n".join(problems))
    from mobilevd.pipeline.checks import check_run  # only here: PyTorch takes seconds to import
    from mobilevd.pipeline.estimate import check_disk, describe_estimate, describe_rows, estimate_run
    from mobilevd.pipeline.make_anew import rows_to_remove
    from training.plan.machine import launched_processes

    checked = check_run(config, trusted)
    removed = rows_to_remove(config.output, checked.entries, from_stage)
    if from_stage is not None:
        there = ", ".join(str(entry.folder) for entry in removed)
        typer.echo(f"# removed, to be made anew: {there or 'nothing that is there'}")
    estimate = estimate_run(config, checked.entries, launched_processes(), removed)
    check_disk(config, estimate)
    typer.echo(f"# {describe_estimate(estimate)}")
    typer.echo("\n".join(f"#   {line}" for line in describe_rows(estimate)))
    if too_large is not None:
        raise too_large


def check_plan(config: RunConfig) -> str:
    """Rehearse all stages, and plan their memory and work; return what there is to say of it.

    Raises UserError, naming the key, for a stage that cannot be or does not fit, with the smallest change that would do.
    """
    from training.plan.fit import run_of
    from training.plan.machine import launched_processes, machine_of

    run = run_of(config)
    fits = f"# every stage fits {config.data.num_frames} frames at its size"
    if not run.trained:
        return fits
    if not machine_of(config.hardware, launched_processes()).gpu:
        return (
            f"{fits}; hardware.gpu=NAME plans memory and hours on a GPU"  # counting takes longer than a tiny training
        )
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
