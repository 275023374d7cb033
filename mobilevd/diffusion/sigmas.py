"""Noise levels: the Karras grid for sampling and the distributions that training draws from."""

from __future__ import annotations

import torch
from torch import Tensor

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0  # SVD's grid


def karras_sigmas(
    num_steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO
) -> Tensor:
    """Falling noise levels (num_steps,), float64, evenly spaced in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    if num_steps < 2:
        return torch.tensor([sigma_max], dtype=torch.float64)
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    return (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho


def discretized_lognormal_weights(grid: Tensor, p_mean: float, p_std: float) -> Tensor:
    """Chances (n - 1,), up to a factor, of the points of a falling `grid` (n,): the mass of a lognormal around each.

    SF-V draws the discriminator's s' this way: a point's weight is erf of its bin's upper edge minus that of its lower
    one, p(s_i) proportional to erf((ln s_i - p_mean) / (sqrt(2) p_std)) - erf((ln s_{i+1} - p_mean) / (sqrt(2) p_std)).
    """
    edges = torch.erf((grid.log() - p_mean) / (2**0.5 * p_std))
    return edges[:-1] - edges[1:]
