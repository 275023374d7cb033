"""The SQNR of the model's output when one block alone is rounded, as in the quantization of latent diffusion.

Signal-to-quantization-noise ratio, 10 log10(|y|^2 / |y - y_q|^2), of the model's output y (Yang et al., "Efficient
Quantization Strategies for Latent Diffusion Models", 2023, use it for blocks and for whole models). A one-step
generator is evaluated once, so there are no steps to average over: the inputs are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from export.program.layer_precision import module_path
from export.program.parity import snr_db
from export.program.program import Program
from export.proof.half import HalfGraph, depend_on_inputs
from export.quantization.blocks import LayerGroup, find_blocks
from export.quantization.simulate import observe_ranges, simulated
from export.targets.base import Target
from mobilevd.model.layers.ops import set_phone_form

INPUTS = 2  # number of calibration inputs that sensitivity is measured on


@dataclass(frozen=True)
class Sensitivity:
    """A block with the SQNR in dB of the model's output when the block alone has a precision, by precision."""

    block: LayerGroup
    sqnr_db: dict[str, float]

    @property
    def parameters(self) -> int:
        """Weights of the block's layers."""
        return sum(layer.weight.numel() for layer in self.block.layers.values())

    def noise(self, precision: str) -> float:
        """Noise-to-signal ratio at a precision; 0 for float32."""
        return 0.0 if precision == "fp32" else 10 ** (-self.sqnr_db[precision] / 10)


@torch.no_grad()
def measure_sensitivity(
    program: Program, target: Target, precisions: Sequence[str], on_block: Callable[[int, int], None] | None = None
) -> list[Sensitivity]:
    """Measure every block at every precision but fp32 on calibration inputs; most sensitive (at the first) blocks first.

    In half precision the block's whole arithmetic is rounded, as `export.proof.half` does it: a block that overflows there
    gives no number. In other precisions its layers' weights and inputs are.

    Args:
        target: decides what a block computes in half precision.
        on_block: called with the number of finished blocks and the number of all blocks.
    """
    set_phone_form(program.module, False)  # the native form is the faster one here, and gives the same
    blocks = _in_graph(program, find_blocks(program.module))
    inputs = [tuple(each.values()) for each in program.calibration[:INPUTS]]
    ranges = observe_ranges(program.module, blocks, inputs) if "int8" in precisions else None
    exact = torch.cat([_output(program, each) for each in inputs])
    found = []
    for number, block in enumerate(blocks):
        figures = {}
        for precision in precisions:
            if precision == "fp16":
                half = HalfGraph(program, target, "fp32", dict.fromkeys(block.names, "fp16"))
                figures[precision] = snr_db(torch.cat([half.run(each)[0][0].flatten() for each in inputs]), exact)
            elif precision != "fp32":
                with simulated(block, precision, ranges):
                    figures[precision] = snr_db(torch.cat([_output(program, each) for each in inputs]), exact)
        found.append(Sensitivity(block, figures))
        if on_block is not None:
            on_block(number + 1, len(blocks))
    lowest = precisions[0]
    return sorted(found, key=lambda s: s.sqnr_db[lowest])


def _in_graph(program: Program, blocks: Sequence[LayerGroup]) -> list[LayerGroup]:
    """The blocks that the program still computes: for a fixed noise level the time embedding was folded away."""
    graph = program.graph(phone_form=True)
    paths = {module_path(node) for node in depend_on_inputs(graph)}
    return [block for block in blocks if paths & block.layers.keys()]


def _output(program: Program, inputs: tuple[Tensor, ...]) -> Tensor:
    output = program.module(*inputs)
    return (output if isinstance(output, Tensor) else output[0]).flatten()
