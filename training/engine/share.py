"""The share of the global batch that a process computes, and in how many passes: the recipe stays the same."""

from __future__ import annotations

from dataclasses import dataclass

from mobilevd.errors import UserError


@dataclass(frozen=True)
class Share:
    """A process's places in the global batch, in passes of `micro_batch` clips each.

    Attributes:
        batch_size: clips of an optimizer step, over all processes together.
        processes, rank: number of processes, and which one this is.
        micro_batch: clips of one forward pass.
    """

    batch_size: int
    processes: int
    rank: int
    micro_batch: int

    @property
    def clips(self) -> int:
        """Clips of this process in a step."""
        return self.batch_size // self.processes

    @property
    def passes(self) -> int:
        """Forward passes of a step, whose gradients are accumulated."""
        return self.clips // self.micro_batch

    def places(self, number: int) -> range:
        """The places in the global batch of pass `number`."""
        first = self.rank * self.clips + number * self.micro_batch
        return range(first, first + self.micro_batch)


def share_of(batch_size: int, processes: int, rank: int, micro_batch: int | None) -> Share:
    """The share of process `rank`; `micro_batch` None takes all of it at once.

    Raises UserError, with the nearest numbers that can be, if the batch is not divided evenly.
    """
    if batch_size % processes:
        below = batch_size // processes * processes
        sizes = f"{below} or {below + processes}" if below else f"{processes}"
        raise UserError(
            f"training.batch_size: {batch_size} clips cannot be divided evenly over {processes} processes; "
            f"nearest possible: {sizes}"
        )
    clips = batch_size // processes
    micro = clips if micro_batch is None else micro_batch
    if micro > clips or clips % micro:
        possible = [n for n in range(1, clips + 1) if clips % n == 0]
        raise UserError(
            f"training.micro_batch_size: the {clips} clips of a process (batch_size {batch_size} over {processes}) cannot "
            f"be divided into passes of {micro}; possible: {', '.join(map(str, possible))}"
        )
    return Share(batch_size, processes, rank, micro)
