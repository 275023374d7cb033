"""The order in which clips are seen: a function of (seed, step, place in the global batch), in constant memory."""

from __future__ import annotations

from collections.abc import Sequence

from training.data.draws import mixed

ROUNDS = 6  # of the Feistel network; four make a permutation that no simple test tells from a random one


def permuted(position: int, count: int, key: int) -> int:
    """The image of `position` in [0, count) under a permutation of [0, count) that the key chooses.

    A Feistel network on the next power of four, walked until it lands inside (format-preserving encryption).
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = position >> half, position & mask
        for number in range(ROUNDS):
            left, right = right, left ^ (mixed(key, number, right) & mask)
        position = left << half | right
        if position < count:
            return position


class Order:
    """Epochs of all clips, in an order of their own each; a batch is of clips of one size.

    Clips are numbered so that those of a size follow one another. What does not fill a batch at the end of an epoch is
    left out of that epoch; a size with fewer clips than a batch shows some of them twice.

    Args:
        sizes: number of clips of every size, at least one clip in all.
        batch_size: clips per optimizer step, over all processes together.
        seed: of the order.
    """

    def __init__(self, sizes: Sequence[int], batch_size: int, seed: int) -> None:
        self.sizes, self.batch_size, self.seed = list(sizes), batch_size, seed
        self.batches = [max(1, count // batch_size) if count else 0 for count in self.sizes]  # in an epoch
        self.epoch_steps = sum(self.batches)

    def epoch(self, step: int) -> float:
        """Epochs done before `step`."""
        return step / self.epoch_steps

    def clips(self, step: int, phase: int, places: Sequence[int]) -> list[int]:
        """Numbers of the clips at `places` of the batch of a step and phase."""
        epoch, batch = divmod(step, self.epoch_steps)
        batch = permuted(batch, self.epoch_steps, mixed(self.seed, phase, epoch))
        first = 0
        for size, (count, batches) in enumerate(zip(self.sizes, self.batches, strict=True)):
            if batch < batches:
                key = mixed(self.seed, phase, epoch, size)
                return [first + permuted((batch * self.batch_size + place) % count, count, key) for place in places]
            first, batch = first + count, batch - batches
        raise AssertionError("a batch of no size")
