"""The optimizers by name, and a step that a flag on the device can turn into no step, without waiting for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mobilevd.config.training import TrainingSettings


def make_optimizer(
    settings: TrainingSettings, parameters: Mapping[str, nn.Parameter], rate: float, own_rates: Mapping[str, float]
) -> torch.optim.Optimizer:
    """An optimizer of named parameters at learning rate `rate`, or at that of the ending of a name in `own_rates`."""
    groups: dict[float, list[nn.Parameter]] = {rate: []}
    for name, parameter in parameters.items():
        own = next((value for suffix, value in own_rates.items() if name.endswith(suffix)), rate)
        groups.setdefault(own, []).append(parameter)
    listed: list[dict[str, Any]] = [
        # a group with its own rate holds choices, not weights; decay would drive them to the same value
        {"params": p, "lr": r, "base_lr": r, "weight_decay": settings.weight_decay if r == rate else 0.0}
        for r, p in groups.items()
        if p
    ]
    if settings.optimizer == "sm3":
        from pytorch_optimizer import SM3

        momentum, beta = settings.betas
        for group in listed:
            del group["weight_decay"]  # SM3 has none
        return SM3(listed, lr=rate, momentum=momentum, beta=beta)
    if settings.optimizer == "adamw-8bit":
        from torchao.optim import AdamW8bit

        return AdamW8bit(listed, lr=rate, betas=settings.betas)
    return torch.optim.AdamW(listed, lr=rate, betas=settings.betas, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its own."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["base_lr"] * factor)
        else:
            group["lr"] = group["base_lr"] * factor


def step_unless(bad: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take a step, or none at all if `bad` (a scalar, 0 or 1, on the device) is 1.

    The fused AdamW looks at the flag itself, so that the processor needs not wait for the device.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.step()
    elif not float(bad):
        optimizer.step()


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters of an optimizer."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
