"""The spread between runs: what several results of a side tell, and what one result leaves open.

Samples of one run share its temperature, its place in memory and its company; the next run has others. The unit of a
comparison is then the run, not the sample (Kalibera and Jones, "Rigorous benchmarking in reasonable time", 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ASSUMED_SPREAD = 0.03
"""Standard deviation between runs of one program, as a share, of which one result a side tells the consequence."""


@dataclass(frozen=True)
class BetweenRuns:
    """Several runs a side.

    Attributes:
        ratio: ratio of the geometric means of the runs' figures, second side over first.
        low, high: its interval at confidence 1 - alpha, from the spread between runs.
        p_value: two-sided p of Student's t test on the logarithms.
        spread: standard deviation between runs of one side, as a share.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    spread: float


@dataclass(frozen=True)
class IfRunsVary:
    """What the verdict of one run a side would be if runs of one program differ by `spread` (standard deviation)."""

    spread: float
    low: float
    high: float
    verdict: str


def between_runs(a: Sequence[float], b: Sequence[float], alpha: float) -> BetweenRuns | None:
    """Compare the runs' figures in milliseconds, all positive; None if neither side has two runs.

    The spread is taken as equal on both sides and pooled. A side with a single run lends none of its own.
    """
    from scipy.stats import t

    freedom = len(a) + len(b) - 2
    if freedom < 1:
        return None
    logs = [[math.log(value) for value in side] for side in (a, b)]
    means = [math.fsum(side) / len(side) for side in logs]
    squares = math.fsum((x - mean) ** 2 for side, mean in zip(logs, means, strict=True) for x in side)
    spread = math.sqrt(squares / freedom)
    error = spread * math.sqrt(1 / len(a) + 1 / len(b))
    difference = means[1] - means[0]
    reach = float(t.isf(alpha / 2, freedom)) * error
    if error > 0:
        p_value = 2 * float(t.sf(abs(difference) / error, freedom))
    else:
        p_value = 1.0 if difference == 0 else 0.0
    return BetweenRuns(
        math.exp(difference), math.exp(difference - reach), math.exp(difference + reach), p_value, math.expm1(spread)
    )


def widened(ratio: float, low: float, high: float, alpha: float, spread: float = ASSUMED_SPREAD) -> tuple[float, float]:
    """The interval of a ratio of one run a side, with a spread between runs added to its own."""
    from scipy.stats import norm

    more = float(norm.isf(alpha / 2)) * math.log1p(spread) * math.sqrt(2)
    below, above = math.log(ratio / low), math.log(high / ratio)
    return ratio * math.exp(-math.hypot(below, more)), ratio * math.exp(math.hypot(above, more))
