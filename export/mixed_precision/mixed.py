"""The choices of a mixed precision, in which the blocks that cost most quality per byte keep a higher precision.

Errors of different blocks are taken as independent, so that their noise adds up (the SQNR metric's usual assumption).
The choices start with everything at the lowest precision and repeatedly raise the block that removes most noise for its
bytes. The exported program is then measured; if it falls short, more blocks are raised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from export.mixed_precision.sensitivity import Sensitivity


@dataclass(frozen=True)
class Choice:
    """A precision for every block, with the expected result: SQNR of the output, and bytes of weights."""

    layers: dict[str, str]
    sqnr_db: float
    size_bytes: float


def choices(sensitivities: Sequence[Sensitivity], levels: Sequence[str]) -> list[Choice]:
    """Return the choices from everything at `levels[0]` to everything at `levels[-1]`, one block raised at each."""
    at = {s.block.name: 0 for s in sensitivities}
    path = [_choice(sensitivities, levels, at)]
    while True:
        steps = [(gain, s.block.name, level) for s in sensitivities for gain, level in _raises(s, levels, at)]
        if not steps:
            return path
        _, name, level = max(steps, key=lambda step: step[0])
        at[name] = level
        path.append(_choice(sensitivities, levels, at))


def _raises(s: Sensitivity, levels: Sequence[str], at: dict[str, int]) -> list[tuple[float, int]]:
    """Noise removed per byte, for every higher level of one block."""
    now = levels[at[s.block.name]]
    result = []
    for level in range(at[s.block.name] + 1, len(levels)):
        saved = s.noise(now) - s.noise(levels[level])
        cost = s.block.size_bytes(levels[level]) - s.block.size_bytes(now)
        result.append((saved / max(cost, 1.0), level))
    return result


def _choice(sensitivities: Sequence[Sensitivity], levels: Sequence[str], at: dict[str, int]) -> Choice:
    raised = [(s.block, at[s.block.name]) for s in sensitivities if at[s.block.name] > 0]
    layers = {name: levels[level] for block, level in raised for name in block.names}
    noise = sum(s.noise(levels[at[s.block.name]]) for s in sensitivities)
    size = sum(s.block.size_bytes(levels[at[s.block.name]]) for s in sensitivities)
    return Choice(layers, -10 * math.log10(noise) if noise > 0 else math.inf, size)
