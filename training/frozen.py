"""Models that losses use and nothing trains, in float32 or, at half the memory, in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import nn

ModuleT = TypeVar("ModuleT")


def frozen(module: ModuleT, dtype: torch.dtype) -> ModuleT:
    """The module itself, in evaluation mode, without gradients of its own, its weights in `dtype`."""
    as_module = cast(nn.Module, module)
    # diffusers' own `to` warns about every change of dtype
    return cast(ModuleT, nn.Module.to(as_module.requires_grad_(False).eval(), dtype=dtype))


@contextmanager
def in_precision_of(module: object) -> Iterator[None]:
    """Compute in the precision of a frozen module's weights where it is half, so that any input fits them."""
    weight = next(cast(nn.Module, module).parameters())
    if weight.dtype == torch.float32:
        yield
        return
    with torch.autocast(weight.device.type, weight.dtype):
        yield
