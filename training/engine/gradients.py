"""Gradients of parameters that may be sharded: their norm, their clipping, their average over processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


@torch.no_grad()
def global_norm(parameters: Sequence[nn.Parameter], device: torch.device) -> Tensor:
    """Euclidean norm of all gradients together, a scalar on the device; the same in all processes."""
    gradients = _gradients(parameters)
    sharded = [local(g) for g in gradients if isinstance(g, DTensor)]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    total = _squares(whole, device)
    if any(isinstance(parameter, DTensor) for parameter in parameters):
        parts = _squares(sharded, device)
        dist.all_reduce(parts)
        total = total + parts
    return total.sqrt()


def _squares(tensors: list[Tensor], device: torch.device) -> Tensor:
    if not tensors:
        return torch.zeros((), device=device)
    return torch.stack([n.float() for n in torch._foreach_norm(tensors)]).square().sum()


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], norm: Tensor, largest: float) -> None:
    """Scale gradients of this `norm` down to the largest that is allowed."""
    tensors = [local(gradient) for gradient in _gradients(parameters)]
    if tensors:
        torch._foreach_mul_(tensors, (largest / (norm + 1e-6)).clamp(max=1.0))


@torch.no_grad()
def average_over_processes(parameters: Sequence[nn.Parameter], processes: int) -> None:
    """Average gradients that neither DDP nor FSDP averages, all in one exchange."""
    gradients = _gradients(parameters)
    if processes == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= processes
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
