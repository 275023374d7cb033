"""The loss of accuracy by block: the graph lowered once more, with every block's output as an output of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from export.program.layer_precision import LayerPrecisions
from export.program.parity import snr_db
from export.program.program import Program
from export.targets.base import Target
from mobilevd.model.anatomy import block_modules, in_unet
from mobilevd.model.layers.ops import set_phone_form


@dataclass(frozen=True)
class BlockLoss:
    """A block of the model in a lowered program.

    Attributes:
        name: name of the module.
        snr_db: signal-to-noise ratio of its output, against the model in float32.
        added: noise-to-signal ratio of its output minus that of the block before it: the noise it adds, errors being
            independent.
    """

    name: str
    snr_db: float
    added: float


class Tapped(nn.Module):
    """A module that returns, after its own output, those of the blocks inside it, in the order in which they run."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.names: list[str] = []
        self._taken: list[Tensor] = []
        for name, block in tapped_blocks(module).items():
            block.register_forward_hook(self._taker(name))

    def _taker(self, name: str) -> Callable[..., None]:
        def take(module: nn.Module, arguments: tuple[object, ...], output: Tensor) -> None:
            self.names.append(name)
            self._taken.append(output)

        return take

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.names, self._taken = [], []
        output = self.module(*inputs)
        taken, self._taken = self._taken, []
        return (output, *taken)


def tapped_blocks(module: nn.Module) -> dict[str, nn.Module]:
    """The blocks to name: a UNet's residual and transformer blocks, else the module's own parts."""
    blocks = {in_unet(path): block for path, block in block_modules(module).items()}
    return blocks or dict(module.named_children())


def worst_blocks(
    program: Program, target: Target, precision: str, layers: LayerPrecisions | None = None
) -> list[BlockLoss]:
    """Lower `program` again with taps, run it here, and return its blocks, the one that adds most noise first."""
    tapped = Tapped(program.module)
    inputs = program.example
    try:
        set_phone_form(program.module, False)
        with torch.no_grad():
            outputs = tapped(*inputs)
        names = list(tapped.names)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"tapped{target.suffix}"
            all_outputs = tuple(f"output_{i}" for i in range(len(outputs)))
            target.lower(replace(program, module=tapped, outputs=all_outputs), precision, file, layers)
            got = target.run(file, inputs)
    finally:
        for block in tapped_blocks(program.module).values():
            block._forward_hooks.clear()
    losses, before = [], 0.0
    for name, mine, reference in zip(names, got[1:], outputs[1:], strict=True):
        snr = snr_db(mine.reshape(reference.shape), reference)
        noise = 10 ** (-snr / 10)
        losses.append(BlockLoss(name, snr, noise - before))
        before = noise
    return sorted(losses, key=lambda loss: -loss.added)
