"""The check that a model computes numbers at all, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from export.program.program import Inputs
from mobilevd.errors import UserError
from mobilevd.model.anatomy import in_unet


def check_weights(name: str, module: nn.Module) -> None:
    """Raise UserError naming the first parameter or buffer of `module` that holds an infinity or NaN."""
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not (finite := torch.isfinite(tensor)).all():
            count = int((~finite).sum())
            raise UserError(
                f"{name}: the weight {in_unet(key)} holds {count} values of {tensor.numel()} that are no finite numbers "
                "(NaN or infinity); export a checkpoint from before the training diverged"
            )


def check_references(
    name: str, module: nn.Module, cases: Mapping[str, Inputs], references: Mapping[str, Sequence[Tensor]]
) -> None:
    """Raise UserError if an output of the model in float32 is not finite, naming the first module whose output is not."""
    for kind, outputs in references.items():
        if all(bool(torch.isfinite(output).all()) for output in outputs):
            continue
        bad = next((key for key, tensor in cases[kind].items() if not torch.isfinite(tensor).all()), None)
        if bad is not None:
            raise UserError(f"{name}: the input {bad} ({kind}) holds values that are no finite numbers")
        where = first_non_finite(module, tuple(cases[kind].values()))
        named = f"the first module with such an output is {in_unet(where) or 'the model itself'}"
        raise UserError(
            f"{name}: the model's own output on {kind}, in float32, holds values that are no finite numbers; {named}"
        )


@torch.no_grad()
def first_non_finite(module: nn.Module, inputs: Sequence[Tensor]) -> str:
    """Path of the first submodule, in the order in which they end, with an output that is not finite; "" for none."""
    found: list[str] = []
    hooks = []
    for path, part in module.named_modules():

        def look(_: nn.Module, arguments: tuple[Any, ...], output: Any, path: str = path) -> None:
            if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(path)

        hooks.append(part.register_forward_hook(look))
    try:
        module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""
