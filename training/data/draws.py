"""Random numbers of a training step: every clip of the global batch has its own, whichever process computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def step_generator(*numbers: int) -> torch.Generator:
    """A generator whose state is a function of the numbers (seed, step, place, ...) and of nothing else."""
    return torch.Generator().manual_seed(mixed(*numbers) & 0x7FFFFFFFFFFFFFFF)


def mixed(*numbers: int) -> int:
    """A 64-bit number that is a function of the numbers; neighbouring ones give unrelated results."""
    seed = 0
    for number in numbers:
        # a 64-bit mixing step (splitmix64's constants)
        seed = (seed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        seed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        seed ^= seed >> 27
    return seed


class Draws:
    """Draws for the clips at some `places` of the global batch; each is a function of (seed, step, phase, place).

    So a recipe draws the same on one GPU and on eight, at once or by accumulation. All results are on the CPU.
    """

    def __init__(self, seed: int, step: int, phase: int, places: Sequence[int]) -> None:
        self._generators = [step_generator(seed, step, phase, place) for place in places]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) of N(0, 1)."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])

    def uniform(self) -> Tensor:
        """(B,) in [0, 1)."""
        return torch.stack([torch.rand((), generator=generator) for generator in self._generators])

    def integers(self, high: int) -> Tensor:
        """(B,) int64 in [0, high)."""
        return torch.stack([torch.randint(high, (), generator=generator) for generator in self._generators])

    def choices(self, weights: Tensor) -> Tensor:
        """(B,) int64, each index drawn with a chance proportional to its weight (n,)."""
        return torch.cat([torch.multinomial(weights, 1, generator=generator) for generator in self._generators])
