"""Checkpoints of a training under way: whole or not there, and enough to continue as if nothing had happened."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mobilevd.errors import UserError
from mobilevd.files import atomic_folder, atomic_write_json, recover_folder
from mobilevd.json_files import read_json
from mobilevd.places import only

FILES = ("*.safetensors", "optimizers.pt", "states.pt", "progress.json")
"""Names of a checkpoint's files, as patterns."""


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        step: optimizer steps done.
        skipped: steps passed over because a loss or gradient was not finite.
        skipped_in_a_row: the same for each phase, without a good step of that phase since.
        plan: fingerprint of what is trained and how; another plan does not continue this checkpoint.
        history: figures logged so far.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: dict[str, int] = field(default_factory=dict)
    plan: str = ""
    history: list[dict[str, float]] = field(default_factory=list)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}


def save_checkpoint(
    folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Any], states: dict[str, Any], progress: Progress
) -> None:
    """Write weights (safetensors), optimizer and other states (tensors and numbers only) and the progress."""
    with atomic_folder(folder, only(*FILES)) as temporary:
        for name, module in modules.items():
            save_file(_tensors(module), temporary / f"{name}.safetensors")
        torch.save(
            {name: optimizer.state_dict() for name, optimizer in optimizers.items()}, temporary / "optimizers.pt"
        )
        torch.save(states, temporary / "states.pt")
        atomic_write_json(temporary / "progress.json", asdict(progress))


def load_checkpoint(
    folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Any], plan: str
) -> tuple[Progress, dict[str, Any]] | None:
    """Restore what `save_checkpoint` wrote; None if there is none.

    Raises UserError if the checkpoint belongs to another plan (other settings, data or model).
    """
    recover_folder(folder)
    if not (folder / "progress.json").is_file():
        return None
    told = read_json(folder / "progress.json")
    try:
        progress = Progress(**told)
    except TypeError:
        raise UserError(f"{folder / 'progress.json'}: not the progress of a training; delete the folder") from None
    if not isinstance(progress.skipped_in_a_row, dict):  # of a version that counted all phases together
        progress.skipped_in_a_row = {}
    if progress.plan != plan:
        raise UserError(
            f"{folder}: this checkpoint was written with other settings; give the settings it was started with, "
            "or delete the folder to train this stage anew"
        )
    for name, module in modules.items():
        module.load_state_dict(load_file(folder / f"{name}.safetensors"))
    # onto the CPU, not onto the device of the process that wrote it; optimizers move it to their parameters
    saved = torch.load(folder / "optimizers.pt", weights_only=True, map_location="cpu")
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(saved[name])
    return progress, torch.load(folder / "states.pt", weights_only=True, map_location="cpu")
