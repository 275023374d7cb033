"""The proof in half precision: the graph with every result rounded to 16 bits, as a phone computes it.

No runtime on this host does that: XNNPACK computes a half-precision program in float32 where the processor has no such
arithmetic, ONNX Runtime puts casts around what it has no kernel for, and Core ML, Vulkan and QNN are not run at all. So
the program's graph in elementary operators (norms and attention in steps, as the backends take them apart) is run here
one by one. An operator that the target computes in half precision takes its operands rounded to 16 bits and gives a
rounded result; what is beyond 65504 becomes an infinity. Inside one operator sums are taken in float32: a processor that
accumulates in 16 bits loses more, a backend that fuses steps loses less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from device_runner.bundle.manifest import HalfEntry, MagnitudeEntry
from export.program.layer_precision import LayerPrecisions, module_path
from export.program.parity import MAX_DB, Parity, compare
from export.program.program import Program
from export.proof.prove import every_check
from export.targets.base import Target
from mobilevd.errors import UserError
from mobilevd.model.anatomy import in_unet

LARGEST = torch.finfo(torch.float16).max
ARITHMETIC = "every operator's operands and result rounded to float16, sums inside an operator in float32"
NAMED = 10
"""Number of layers in the manifest."""
OUTPUT = "output"
"""What the last operators are called, which are in no layer: the output is put together of noise and prediction."""
CONCATENATION = torch.ops.aten.cat.default
MOVES = (
    torch.ops.aten.flatten.using_ints,
    torch.ops.aten.reshape.default,
    torch.ops.aten.view.default,
    torch.ops.aten.unsqueeze.default,
)


@dataclass(frozen=True)
class HalfProof:
    """A program's outputs in half precision against the model's.

    Attributes:
        checks: by kind of inputs, an entry per output.
        magnitudes: largest absolute value that each layer computes in half precision, before it is rounded, by the
            layer's name; over all kinds of inputs.
        overflow: the first layer with a result that half precision does not hold; None if there is none.
    """

    checks: dict[str, list[Parity]]
    magnitudes: dict[str, float]
    overflow: str | None

    @property
    def psnr_db(self) -> float:
        """The least PSNR of all outputs on all inputs."""
        return min(check.psnr_db for each in self.checks.values() for check in each)

    def largest(self, count: int) -> list[tuple[str, float]]:
        """The layers with the largest magnitudes, the largest first."""
        return sorted(self.magnitudes.items(), key=lambda item: -item[1])[:count]


class HalfGraph:
    """A program's graph with the operators that a target computes in half precision (`halves`, perhaps none)."""

    def __init__(self, program: Program, target: Target, precision: str, layers: LayerPrecisions | None = None) -> None:
        self.program = program.graph(phone_form=True)
        self.live = depend_on_inputs(self.program)
        given = self._given()
        self.halves = {
            node
            for node in self.live - given
            if node.op == "call_function" and target.computes_in_half(node, precision, layers)
        }

    def _given(self) -> set[fx.Node]:
        """Inputs that were only reshaped: still in float32, as they were given."""
        given: set[fx.Node] = set()
        for node in self.program.graph.nodes:
            if node.target in MOVES and all(n in given or n.op == "placeholder" for n in node.all_input_nodes):
                given.add(node)
        return given

    def run(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, float], str | None]:
        """The outputs; every layer's largest magnitude; the first layer with a result that half precision cannot hold."""
        run = _HalfRun(self)
        with torch.no_grad():
            outputs = run.outputs(inputs)
        return outputs, run.magnitudes, run.overflow


def check_half_gate(program: Program, target: Target, precision: str, proof: HalfProof, gate_db: float) -> None:
    """Raise UserError if an output in half precision is below `gate_db`, naming the layer and the remedy."""
    if proof.psnr_db >= gate_db:
        return
    layer, magnitude = proof.largest(1)[0]
    if proof.overflow is not None:
        told = f"{proof.overflow} computes a value beyond {LARGEST:g}, the largest in half precision"
    else:
        told = f"the largest values are in {layer}: {magnitude:.3g}"
    mixed = [ladder for ladder in target.ladders if precision in ladder and ladder[-1] == "fp32"]
    if mixed and precision != "fp32":
        remedy = f"Keep such layers in fp32 (--min-psnr {gate_db:g})"
        remedy += ", export to fp32" if "fp32" in target.precisions else ""
    else:
        remedy = "Export to fp32" if "fp32" in target.precisions else "Choose a target that has fp32"
    raise UserError(
        f"export of {program.name} to {target.name}, {precision}: computed in half precision, as a phone does, its output "
        f"{_distance(proof.psnr_db)}, and {gate_db:g} dB are asked for; nothing was written. In it {told}. {remedy}, or "
        "take it as it is with --allow-low-parity"
    )


def _distance(psnr_db: float) -> str:
    return "holds infinities or NaN" if psnr_db <= -MAX_DB else f"is {psnr_db:.1f} dB PSNR from the model's"


def half_entry(proof: HalfProof, outputs: tuple[str, ...]) -> HalfEntry:
    """The manifest's entry."""
    return HalfEntry(
        arithmetic=ARITHMETIC,
        psnr_db=proof.psnr_db,
        checks=every_check(proof.checks, outputs),
        largest=tuple(MagnitudeEntry(layer, value) for layer, value in proof.largest(NAMED)),
        overflow=proof.overflow,
    )


def prove_in_half(
    program: Program, target: Target, precision: str, layers: LayerPrecisions | None = None
) -> HalfProof | None:
    """Run the graph on every case as the target computes it; None if the target computes none of it in half precision."""
    graph = HalfGraph(program, target, precision, layers)
    if not graph.halves:
        return None
    checks: dict[str, list[Parity]] = {}
    magnitudes: dict[str, float] = {}
    overflow = None
    for kind, inputs in program.cases.items():
        outputs, largest, over = graph.run(list(inputs.values()))
        references = program.references[kind]
        checks[kind] = [compare(out.reshape(ref.shape), ref) for out, ref in zip(outputs, references, strict=True)]
        overflow = overflow or over
        for layer, value in largest.items():
            magnitudes[layer] = max(value, magnitudes.get(layer, 0.0))
    return HalfProof(checks, magnitudes, overflow)


class _HalfRun(fx.Interpreter):
    """One run of a graph."""

    def __init__(self, graph: HalfGraph) -> None:
        super().__init__(graph.program.graph_module)
        self.program = graph.program
        self.live = graph.live
        self.halves = set(graph.halves)
        self.magnitudes: dict[str, float] = {}
        self.overflow: str | None = None

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        tensors: Mapping[str, Any] = {**self.program.state_dict, **self.program.constants}
        given = iter(inputs)
        arguments = [
            next(given) if spec.kind == InputKind.USER_INPUT else tensors[str(spec.target)]
            for spec in self.program.graph_signature.input_specs
        ]
        return list(self.run(*arguments))

    def run_node(self, n: fx.Node) -> Any:
        if n not in self.halves:
            return super().run_node(n)
        if n.target is CONCATENATION and any(
            source in self.live and source.op == "call_function" and source not in self.halves
            for source in n.all_input_nodes
        ):
            # it moves numbers only: where one operand is stored in float32, the result is
            self.halves.discard(n)
            return super().run_node(n)
        args, kwargs = pytree.tree_map(rounded, self.fetch_args_kwargs_from_env(n))
        assert callable(n.target)
        exact = n.target(*args, **kwargs)
        result = pytree.tree_map(rounded, exact)
        self._note(n, exact, result)
        return result

    def _note(self, node: fx.Node, exact: Any, result: Any) -> None:
        layer = in_unet(module_path(node)) or OUTPUT
        for value, stored in zip(pytree.tree_leaves(exact), pytree.tree_leaves(result), strict=True):
            if not (isinstance(value, Tensor) and value.is_floating_point() and value.numel()):
                continue
            magnitude = float(value.abs().max())
            if math.isfinite(magnitude):
                self.magnitudes[layer] = max(magnitude, self.magnitudes.get(layer, 0.0))
            if self.overflow is None and not torch.isfinite(stored).all():
                self.overflow = layer


def rounded(value: Any) -> Any:
    """A floating-point tensor rounded to half precision, in float32; anything else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.half().float()
    return value


def depend_on_inputs(program: ExportedProgram) -> set[fx.Node]:
    """The nodes that depend on the program's inputs; the others are computed once, in float32, before it is lowered."""
    signature = program.graph_signature
    inputs = {spec.arg.name for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT}
    found: set[fx.Node] = set()
    for node in program.graph.nodes:
        if (node.op == "placeholder" and node.name in inputs) or any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found
