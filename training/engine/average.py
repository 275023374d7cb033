"""The exponential moving average of weights, sharded as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.engine.gradients import local

PIECE = 1 << 26
"""Numbers that are averaged together: the change of all weights at once would be a further copy of the model."""


def _pieces(sizes: Mapping[str, int]) -> list[list[str]]:
    """The names, in their order, in groups of about `PIECE` numbers."""
    pieces: list[list[str]] = [[]]
    numbers = 0
    for name, size in sizes.items():
        if numbers and numbers + size > PIECE:
            pieces.append([])
            numbers = 0
        pieces[-1].append(name)
        numbers += size
    return [piece for piece in pieces if piece]


class WeightAverage:
    """An exponential moving average of parameters: avg <- d avg + (1 - d) w after every step.

    The decay rises to `decay` as (1 + n) / (10 + n) with the number n of steps, so that the start is soon forgotten.

    Attributes:
        shadow: averaged weights by name.
        steps: steps averaged so far, a scalar on the device; those that changed nothing do not count.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, device: torch.device) -> None:
        self.parameters, self.decay = dict(parameters), decay
        self.shadow = {name: p.detach().clone() for name, p in parameters.items()} if decay > 0 else {}
        self.steps = torch.zeros((), device=device)
        self._pieces = _pieces({name: local(tensor).numel() for name, tensor in self.shadow.items()})

    @torch.no_grad()
    def update(self, bad: Tensor) -> None:
        """Take the weights of a step into the average, unless `bad` (a scalar, 0 or 1, on the device) is 1."""
        if not self.shadow:
            return
        decay = ((1 + self.steps) / (10 + self.steps)).clamp(max=self.decay)
        decay = torch.where(self.steps == 0, torch.zeros_like(decay), decay)
        weight = (1 - decay) * (1 - bad)
        self.steps += 1 - bad
        for names in self._pieces:
            shadow = [local(self.shadow[name]) for name in names]
            change = torch._foreach_sub([local(self.parameters[name].detach()) for name in names], shadow)
            torch._foreach_mul_(change, weight)
            torch._foreach_add_(shadow, change)

    @torch.no_grad()
    def copy_to_weights(self) -> None:
        """Put the averaged weights in the place of the trained ones."""
        for name, tensor in self.shadow.items():
            local(self.parameters[name]).copy_(local(tensor))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the averaged weights for a while; the trained ones come back bit by bit."""
        kept = {name: local(self.parameters[name]).detach().clone() for name in self.shadow}
        self.copy_to_weights()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in kept.items():
                    local(self.parameters[name]).copy_(tensor)
