"""Published weights as files of tensors: read without running code, and loaded strictly."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mobilevd.errors import UserError


def read_state(file: Path, *keys: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, by name; `keys` are where a checkpoint may keep them, tried in order.

    Nothing is unpickled but tensors and plain containers. Prefixes of wrappers (`module.`, `backbone.`) are taken off.
    Raises UserError for a file of another kind.
    """
    if file.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(str(file))
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a safetensors file: {error}") from None
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:120]
        raise UserError(f"{file}: not a file of weights that loads without running code: {reason}") from None
    for key in keys:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{file}: holds no table of tensors by name")
    return {_plain(name): tensor for name, tensor in content.items()}


def _plain(name: str) -> str:
    for prefix in ("module.", "backbone."):
        name = name.removeprefix(prefix)
    return name


def load_strictly(module: nn.Module, state: dict[str, Tensor], file: Path, what: str) -> None:
    """Load all tensors into the module, in its precision; UserError names the first that does not fit."""
    own = module.state_dict()
    # A count of training batches; converted weights lack it, and nothing is computed from it.
    counted = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - counted)
    over = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} where {tuple(own[name].shape)} is due"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    for kind, names in (("lacks", missing), ("has besides", over), ("has", sorted(shapes))):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{file}: not {what}: {kind} {names[0]}{more}")
    module.load_state_dict(
        {name: (state[name] if name in state else tensor).to(tensor) for name, tensor in own.items()}
    )
