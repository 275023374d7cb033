"""Pairs of feature sets whose Frechet distance is known, and which float32 holds without rounding.

Samples are `mean +- s_i h_i` with the rows h_i of a Hadamard matrix (entries +-1): their mean is `mean`, and their
covariance `2 / (n - ddof) sum s_i^2 h_i h_i^T`. Two such sets commute, though every entry of both covariances is filled,
so that the distance is `|mean_x - mean_y|^2 + d sum (sigma_x,i - sigma_y,i)^2` with `sigma = s sqrt(2 / (n - ddof))`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

DIM = 512  # the power of two next to I3D's 400 logits
STEP = 2.0**-6  # all numbers are multiples of it and below 2^10: 16 bits, sums exact in float32's 24


@dataclass(frozen=True)
class KnownPair:
    """Features x and y, float32 (n, DIM), made from `spread` (k,) each and a mean."""

    name: str
    spread_x: np.ndarray
    spread_y: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray

    def sets(self) -> tuple[np.ndarray, np.ndarray]:
        rows = scipy.linalg.hadamard(DIM).astype(np.float64)
        pairs = ((self.spread_x, self.mean_x), (self.spread_y, self.mean_y))
        x, y = (mean + np.concatenate([s[:, None] * rows[: len(s)], -s[:, None] * rows[: len(s)]]) for s, mean in pairs)
        assert all(np.array_equal(value.astype(np.float32), value) for value in (x, y))
        return x.astype(np.float32), y.astype(np.float32)

    def distance(self, ddof: int) -> float:
        n = 2 * len(self.spread_x)
        spread = DIM * 2 / (n - ddof) * np.sum((self.spread_x - self.spread_y) ** 2)
        return float(np.sum((self.mean_x - self.mean_y) ** 2) + spread)

    def trace(self) -> float:
        """Of both covariances together, to hold an error against."""
        return float(DIM * 2 / (2 * len(self.spread_x) - 1) * np.sum(self.spread_x**2 + self.spread_y**2))


def known_pairs() -> list[KnownPair]:
    rng = np.random.default_rng(0)

    def stepped(values: np.ndarray) -> np.ndarray:
        return np.round(values / STEP) * STEP

    def spread(k: int) -> np.ndarray:
        """Deviations over two decades, as those of logits are."""
        return stepped(10 ** rng.uniform(-0.7, 1.3, k))

    zero, shift = np.zeros(DIM), stepped(rng.normal(size=DIM) / 8)
    few, full = DIM // 4, DIM
    a, b, c, d = spread(full), spread(full), spread(few), spread(few)
    near = np.where(np.arange(full) % 8 == 0, STEP, 0.0)
    return [
        KnownPair(f"{2 * full} clips", a, b, zero, shift),
        KnownPair(f"{2 * few} clips, singular covariances", c, d, zero, shift),
        KnownPair(f"{2 * full} clips, nearly equal", a, a + near, zero, zero),
        KnownPair(f"{2 * full} clips, equal", a, a, zero, zero),
        KnownPair(f"{2 * few} clips, equal", c, c, zero, zero),
        KnownPair(f"{2 * full} clips far from zero", a, b, zero + 400, shift + 400),
    ]
