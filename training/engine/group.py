"""What all processes of a training agree on, by messages between their processors: the GPUs need not wait."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator

from mobilevd.patience import PATIENCE


class TrainingGroup:
    """The processes of a training.

    Attributes:
        processes, rank: number of processes, and which one this is.
        control, writing: groups for exchanges between processors, of the loop and of a checkpoint that is written
            meanwhile; None if there is one process.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.processes, self.rank = accelerator.num_processes, accelerator.process_index
        several = self.processes > 1
        self.control = _new_group() if several else None
        self.writing = _new_group() if several else None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def anywhere(self, flag: bool) -> bool:
        """True if `flag` holds in any process, for decisions that all processes must take alike."""
        if self.control is None:
            return flag
        total = torch.tensor(int(flag))
        dist.all_reduce(total, group=self.control)
        return bool(total)

    def from_first(self, value: Any) -> Any:
        """The value that the first process gives (anything that JSON can hold)."""
        if self.control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def mean(self, values: list[float]) -> list[float]:
        """Means over the processes."""
        if self.control is None:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        return (total / self.processes).tolist()


def _new_group() -> dist.ProcessGroup:
    return cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))
