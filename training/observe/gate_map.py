"""Temporal pruning as it is learned: the probability of every temporal block to be kept, as a map of the UNet.

The map has the UNet's shape: a row per resolution level, blocks from left to right in the order of the forward pass, so
that the down stages fall to the middle and the up stages rise from it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mobilevd.files import atomic_write_bytes
from mobilevd.model.anatomy import TEMPORAL_RESIDUAL, Block, stage_at
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.temporal_pruning import gate_probabilities, most_important

LETTERS = {True: "R", False: "T"}  # residual block, transformer


@dataclass(frozen=True)
class Gate:
    """A temporal block while it is pruned.

    Attributes:
        block: where it is.
        probability: of being in a step's draw.
        kept: among the most important ones, which would stay if training ended now.
    """

    block: Block
    probability: float
    kept: bool

    @property
    def short_name(self) -> str:
        """Kind and number in its stage: R0, T0."""
        return f"{LETTERS[self.block.kind == TEMPORAL_RESIDUAL]}{self.block.name.rpartition('.')[2]}"


def importance_of(unet: SpatioTemporalUNet) -> Tensor | None:
    """The learned importance of the temporal blocks (N,), on the CPU; None without gates.

    All processes call it together: where the model is sharded, its parts come from all of them.
    """
    importance: Any = unet.temporal_importance
    if importance is None:
        return None
    if hasattr(importance, "full_tensor"):  # a DTensor of FSDP
        importance = importance.full_tensor()
    return cast(Tensor, importance).detach().float().cpu()


def gates_of(unet: SpatioTemporalUNet, importance: Tensor, keep: int) -> list[Gate]:
    """The gates of a model in the order of the forward pass, of importance (N,), of which `keep` will stay."""
    probabilities = gate_probabilities(importance, keep).tolist()
    kept = set(most_important(importance, keep))
    temporal = {}
    for block in unet.blocks():
        if block.temporal:
            temporal.setdefault(block.name, block)
    places = [temporal[name] for name in unet.temporal_block_names()]
    return [Gate(block, probabilities[i], i in kept) for i, block in enumerate(places)]


@contextmanager
def final_gates(unet: SpatioTemporalUNet, importance: Tensor | None, keep: int | None) -> Iterator[None]:
    """The model as it would be if pruning ended now: gates of the blocks that would be deleted are 0 meanwhile."""
    mixers: list[Any] = list(unet.time_mixers().values()) if importance is not None and keep is not None else []
    kept = set(most_important(importance, keep)) if importance is not None and keep is not None else set()
    device = next(unet.parameters()).device
    before = [mixer.gate for mixer in mixers]
    for i, mixer in enumerate(mixers):
        mixer.gate = torch.tensor(float(i in kept), device=device)
    try:
        yield
    finally:
        for mixer, gate in zip(mixers, before, strict=True):
            mixer.gate = gate


def describe_gates(gates: list[Gate]) -> str:
    """The map as lines of text for a log file: a line per stage, probabilities in per cent, `*` for what would stay."""
    stages: dict[str, list[Gate]] = {}
    for gate in gates:
        stages.setdefault(stage_at(gate.block.name) or "", []).append(gate)
    width = max(len(stage) for stage in stages)
    lines = [
        f"temporal blocks, chance of being kept in %, * would stay ({sum(g.kept for g in gates)} of {len(gates)}):"
    ]
    for stage, found in stages.items():
        cells = [f"{g.short_name} {round(100 * g.probability):3d}{'*' if g.kept else ' '}" for g in found]
        lines.append(f"  {stage:{width}s}  level {found[0].block.level}  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def write_gate_map(file: Path, gates: list[Gate], title: str) -> None:
    """Write the map as a picture (PNG): colour is the probability, a frame marks what would stay if training ended now."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    levels = max(gate.block.level or 0 for gate in gates) + 1
    figure, axes = pyplot.subplots(figsize=(max(6.0, 0.36 * len(gates) + 2.6), 0.72 * levels + 1.4), dpi=130)
    colours = pyplot.get_cmap("Blues")
    stages: dict[str, list[float]] = {}
    x = 0.0
    previous = None
    for gate in gates:
        stage, level = stage_at(gate.block.name) or "", gate.block.level or 0
        x += 0.35 if previous not in (None, stage) else 0.0  # a gap between stages
        shade = colours(0.05 + 0.9 * gate.probability)
        axes.add_patch(Rectangle((x, level - 0.4), 0.94, 0.8, facecolor=shade, edgecolor="#c8c8c8", linewidth=0.6))
        if gate.kept:
            frame = Rectangle((x + 0.03, level - 0.37), 0.88, 0.74, fill=False, edgecolor="#d1560a", linewidth=2.2)
            axes.add_patch(frame)
        ink = "white" if gate.probability > 0.45 else "#222222"
        axes.text(x + 0.47, level - 0.14, gate.short_name, ha="center", va="center", fontsize=7, color=ink)
        text = f"{round(100 * gate.probability)}"
        axes.text(x + 0.47, level + 0.16, text, ha="center", va="center", fontsize=8, weight="bold", color=ink)
        stages.setdefault(stage, []).append(x)
        previous, x = stage, x + 1.0
    for stage, places in stages.items():
        level = next(g.block.level or 0 for g in gates if stage_at(g.block.name) == stage)
        middle = (places[0] + places[-1] + 0.94) / 2
        axes.text(middle, level - 0.47, stage, ha="center", va="bottom", fontsize=7, color="#666666")
    axes.set_xlim(-0.3, x + 0.3)
    axes.set_ylim(levels - 0.5, -0.75)
    axes.set_yticks(range(levels), [f"level {level}" for level in range(levels)], fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.suptitle(title, fontsize=10, x=0.02, ha="left", y=0.985)
    legend = (
        "R residual block, T transformer; numbers: chance in % that a training step keeps the block; framed: would stay"
    )
    figure.text(0.02, 0.03, legend, fontsize=7.5, color="#444444")
    figure.tight_layout(rect=(0, 0.05, 1, 0.97))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    pyplot.close(figure)
    atomic_write_bytes(file, buffer.getvalue())
