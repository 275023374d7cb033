"""The tables of a plan: memory of every stage that trains, and hours; text of at most 100 columns."""

from __future__ import annotations

from dataclasses import dataclass

from training.plan.machine import Machine
from training.plan.memory import GIB, Memory
from training.plan.work import PlannedWork

NAME = 18
COLUMNS = ("weights", "gradients", "optimizer", "ema", "frozen", "activations", "codec", "reserve", "total")
HEADS = ("weights", "grads", "optim", "EMA", "frozen", "activ", "codec", "reserve", "total")


@dataclass(frozen=True)
class PlanRow:
    """A stage in the tables.

    Attributes:
        name: of the stage.
        batch_size: clips of a step, over all processes.
        micro_batch: clips in a pass.
        memory: of one process.
        steps: of the training.
        work: the whole training.
    """

    name: str
    batch_size: int
    micro_batch: int
    memory: Memory
    steps: int
    work: PlannedWork


def memory_table(rows: list[PlanRow], machine: Machine) -> list[str]:
    """Lines of a table: GiB of one process, stage by stage."""
    each = machine.memory_bytes / GIB
    many = f"{machine.processes} x " if machine.processes > 1 else ""
    lines = [
        f"memory in GiB of one process, of {each:.1f} on {many}{machine.name}; clips: in a pass, of those of a step",
        f"{'stage':{NAME}s} {'clips':>7s}" + "".join(f"{head:>8s}" for head in HEADS),
    ]
    for row in rows:
        figures = "".join(f"{getattr(row.memory, column) / GIB:8.1f}" for column in COLUMNS)
        lines.append(f"{_short(row.name):{NAME}s} {f'{row.micro_batch}/{row.batch_size}':>7s}{figures}")
    return lines


def work_table(rows: list[PlanRow], others: dict[str, PlannedWork], machine: Machine, utilization: float) -> list[str]:
    """Lines of a table: operations and hours of every stage's training and of the other work of the run."""
    known = all(row.work.hours is not None for row in rows)
    peak = f"hours at {utilization:.0%} of the peak" if known else "hours: give hardware.gpu or hardware.tflops"
    lines = [f"work; {peak}", f"{'':{NAME}s} {'steps':>8s} {'TFLOP/step':>11s} {'PFLOP':>11s} {'hours':>9s}"]
    for row in rows:
        step = row.work.flops / row.steps / 1e12
        lines.append(f"{_short(row.name):{NAME}s} {row.steps:8d} {step:11.2f}{_figures(row.work)}")
    for name, work in others.items():
        lines.append(f"{name:{NAME}s} {'':8s} {'':11s}{_figures(work)}")
    works = [*(row.work for row in rows), *others.values()]
    hours = [work.hours for work in works if work.hours is not None]
    total = PlannedWork(sum(work.flops for work in works), sum(hours) if len(hours) == len(works) else None)
    return [*lines, f"{'in all':{NAME}s} {'':8s} {'':11s}{_figures(total)}"]


def _figures(work: PlannedWork) -> str:
    hours = f"{work.hours:9.1f}" if work.hours is not None else f"{'-':>9s}"
    return f" {work.flops / 1e15:11.3g} {hours}"


def _short(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1] + "~"
