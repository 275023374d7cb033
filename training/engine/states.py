"""Everything that a training must remember, as tensors by name: trained weights, averages, optimizers' states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

Tensors = dict[str, Tensor]


def named_states(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """Names of parameters with what the optimizer keeps of them; nothing of those that had no step yet."""
    for name, parameter in parameters.items():
        if state := optimizer.state.get(parameter):
            yield name, state


def optimizer_tensors(prefix: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's states by `prefix`, the parameter's name and the state's."""
    tensors: Tensors = {}
    for name, state in named_states(parameters, optimizer):
        for key, value in state.items():
            for part, tensor in _parts(value):
                # a file of tensors has no numbers without a dimension
                tensors[f"{prefix}{name}/{key}{part}"] = tensor.reshape(1) if tensor.ndim == 0 else tensor
    return tensors


def _parts(value: Any) -> Iterator[tuple[str, Tensor]]:
    """The plain tensors of a state; one of 8 bits has its codes and their scales."""
    if hasattr(value, "codes") and hasattr(value, "scale"):
        yield ".codes", value.codes
        yield ".scale", value.scale
    elif isinstance(value, Tensor):
        yield "", value


def restore_optimizer(
    prefix: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put states that `optimizer_tensors` named back; those of parameters that have none stay empty."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            parameter, _, key = name.removeprefix(prefix).rpartition("/")
            found.setdefault(parameter, {})[key] = tensor
    for name, parts in found.items():
        parameter = parameters[name]
        state: dict[str, Any] = {}
        for key in dict.fromkeys(key.partition(".")[0] for key in parts):
            if f"{key}.codes" in parts:
                state[key] = _eight_bits(optimizer, parameter, key, parts)
            elif key == "step" or parameter.ndim == 0:
                state[key] = parts[key].reshape(())
            else:
                state[key] = parts[key]
        optimizer.state[parameter] = state
    for group in optimizer.param_groups:  # SM3 counts steps here, and uses the count for nothing
        if "step" in group:
            group["step"] = 1


def _eight_bits(optimizer: Any, parameter: nn.Parameter, key: str, parts: Mapping[str, Tensor]) -> Tensor:
    empty = optimizer._new_buffer(parameter, key == "exp_avg")  # knows the map from codes to numbers
    empty.codes.copy_(parts[f"{key}.codes"])
    empty.scale.copy_(parts[f"{key}.scale"])
    return empty


def empty_like_saved(size: torch.Size, dtype: torch.dtype, name: str, parameters: Mapping[str, nn.Parameter]) -> Tensor:
    """A place to read a saved state into: sharded as its parameter if it has the same size, else whole.

    `name` is one that `optimizer_tensors` gave, without its prefix.
    """
    owner, _, key = name.rpartition("/")
    parameter = parameters.get(owner)
    if parameter is None or key == "step":
        return torch.zeros(size, dtype=dtype)
    if parameter.shape == size:
        return torch.zeros_like(parameter.detach(), dtype=dtype)
    return torch.zeros(size, dtype=dtype, device=parameter.device)


def mine(tensors: Tensors, rank: int, processes: int) -> Tensors:
    """What process `rank` writes: its shards, and its part of the whole tensors, which all processes have alike."""
    chosen: Tensors = {}
    load = [0] * processes
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].numel(), item[0])):
        if isinstance(tensor, DTensor):
            chosen[name] = tensor
            continue
        writer = load.index(min(load))
        load[writer] += tensor.numel() * tensor.element_size()
        if writer == rank:
            chosen[name] = tensor
    return chosen
