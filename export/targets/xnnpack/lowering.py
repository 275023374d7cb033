"""Lowering to ExecuTorch's XNNPACK backend: the whole graph as one delegate, in seconds.

ExecuTorch's own lowering (`to_edge_transform_and_lower` with the XNNPACK partitioner) retraces the graph about fifty
times, which takes minutes for any SVD-like UNet whatever its size, and leaves a transposition around every change
between convolutions and tokens. Here the exported graph is translated directly, once (`operators.py`); the payload's
format and its writer are ExecuTorch's own, and the result is an ordinary .pte. A graph with an operator that the
translation does not know takes ExecuTorch's slow lowering, which leaves such operators outside the delegate.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as xnn
from executorch.exir._serialize._cord import Cord
from executorch.exir._serialize._program import PTEFile, serialize_pte_binary
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, export
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from device_runner.bundle.manifest import OutsideOperator
from export.profile.origins import Origin, write_origins
from export.program.delegation import Delegation, OutsideCounter, delegation_of_edge
from export.program.layer_precision import module_path, precision_of
from export.quantization.weights import GROUP_SIZE, WeightFormat
from export.targets.xnnpack.graph import FP16, FP32, GraphBuilder, Unsupported, Value
from export.targets.xnnpack.operators import LAYERS, QUANTIZE, build, constant
from export.targets.xnnpack.program_constants import add_constants
from export.targets.xnnpack.quantized import FixedRange
from mobilevd.files import atomic_file

SEGMENT_ALIGNMENT = 128  # for each constant in the file, as in ExecuTorch; pages would double a small int8 program


@dataclass(frozen=True)
class Format:
    """A precision in XNNPACK's terms: the type that operators compute in, and the storage of layers' weights."""

    float_type: xnn.XNNDatatype
    weights: WeightFormat | None = None


FORMATS = {
    "fp32": Format(FP32),
    "fp16": Format(FP16),
    "int8": Format(FP32),  # static ranges: the graph itself says what is quantized
    "8da8w": Format(FP32, WeightFormat(8)),
    "8da4w": Format(FP32, WeightFormat(4, GROUP_SIZE)),
}


class NotDelegated(Exception):
    """An error for a graph with parts that XNNPACK lacks; `operators` lists those found, not what lies behind them."""

    def __init__(self, operators: list[OutsideOperator]) -> None:
        self.operators = operators
        super().__init__(", ".join(f"{o.op} (x{o.count})" for o in operators))


def lower_to_file(
    program: ExportedProgram,
    file: Path,
    precision: str = "fp32",
    layers: Mapping[str, str] | None = None,
    places: Path | None = None,
) -> Delegation:
    """Write an exported graph with float32 inputs, quantized by PT2E or not, as a .pte file with one XNNPACK delegate.

    Whatever depends on parameters and constants alone is computed here and stored. Constants wait in a folder beside
    the file, so that memory holds one at a time.

    Args:
        precision: one of `FORMATS`.
        layers: submodules with another precision.
        places: file to write the operators' origins in the model to (`export/profile/origins.py`).

    Raises:
        NotDelegated: XNNPACK lacks operators; the error names them.
    """
    with (
        atomic_file(file) as unfinished,
        tempfile.TemporaryDirectory(prefix=".tmp-constants-", dir=file.parent) as scratch,
        torch.no_grad(),
        _without_deprecations(),
    ):
        builder = translate(program, precision, layers, Path(scratch))
        content = _emit(program, builder)
        with open(unfinished, "wb") as opened:
            content.write_to_file(opened)
        if places is not None:
            write_origins(places, origins_of(builder))
        return Delegation(1, [], len(builder.nodes), 1.0)


def origins_of(graph: GraphBuilder) -> list[Origin]:
    """The origins of a labelled graph's nodes (`translate`), in order."""
    return [Origin(type(node.xnode_union).__name__, path) for node, path in zip(graph.nodes, graph.labels, strict=True)]


def lower_by_partitioner(program: ExportedProgram) -> tuple[bytes, Delegation]:
    """Lower to a .pte file by ExecuTorch's own partitioner: slow, and what XNNPACK lacks runs in portable kernels."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    with torch.no_grad(), _without_deprecations():
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            # the check refuses some operators that the portable kernels do have
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        delegation = delegation_of_edge(edge.exported_program())
        return bytes(edge.to_executorch().buffer), delegation


def translate(
    program: ExportedProgram,
    precision: str = "fp32",
    layers: Mapping[str, str] | None = None,
    scratch: Path | None = None,
    env: dict[fx.Node, object] | None = None,
) -> GraphBuilder:
    """Translate an exported program to XNNPACK's graph; see `lower_to_file`, and `GraphBuilder` for `scratch`.

    Args:
        env: filled with the result of every node: a `Value`, or a constant.

    Raises:
        NotDelegated: XNNPACK lacks operators; the error names them.
    """
    builder = GraphBuilder(scratch)
    env = {} if env is None else env
    outside = OutsideCounter()
    tensors = {**program.state_dict, **program.constants}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind == InputKind.USER_INPUT:
                env[node] = builder.input(node.meta["val"].shape)
            else:
                env[node] = tensors[str(spec.target)]
        elif node.op == "call_function":
            args, kwargs = pytree.tree_map(
                lambda a: env.get(a, a) if isinstance(a, fx.Node) else a, (node.args, node.kwargs)
            )
            leaves = pytree.tree_leaves((args, kwargs))
            if any(isinstance(leaf, fx.Node) for leaf in leaves):
                continue  # depends on an operator that is outside already
            if not any(isinstance(leaf, Value) for leaf in leaves):
                env[node] = constant(node.target, args, kwargs)
                continue
            path = module_path(node)
            form = FORMATS[precision_of(path, precision, layers)]
            builder.float_type, builder.weight_format = form.float_type, form.weights
            if node.target in LAYERS and (output := _fixed_output(node)) is not None:
                kwargs = {**kwargs, "output": output}
            try:
                env[node] = build(builder, node.target, args, kwargs)
                builder.label(path)
            except Unsupported as error:
                shapes = [n.meta["val"].shape for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]
                outside.add(f"{node.target}: {error}", [list(shape) for shape in shapes])
        elif node.op == "output" and not outside.result():
            for result in node.args[0]:
                builder.output(cast(Value, env[result]))
            builder.label("")
    if outside.result():
        raise NotDelegated(outside.result())
    return builder


def _fixed_output(node: fx.Node) -> FixedRange | None:
    """The range to which a layer's output is quantized right behind it; None if it is not."""
    for user in node.users:
        if str(user.target) == QUANTIZE:
            return FixedRange(float(cast(float, user.args[1])), int(cast(int, user.args[2])))
    return None


class _Signature(nn.Module):
    """A stand-in for the lowered graph where only inputs and outputs matter."""

    def __init__(self, shapes: list[torch.Size]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros(shape) for shape in self.shapes)


def _emit(program: ExportedProgram, builder: GraphBuilder) -> Cord:
    """Wrap the graph as the only delegate of an ExecuTorch program; return the pieces of its file."""
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    inputs = tuple(torch.zeros(placeholders[name].meta["val"].shape) for name in program.graph_signature.user_inputs)
    results = program.graph.output_node().args[0]
    shapes = [node.meta["val"].shape for node in cast(Sequence[fx.Node], results)]
    lowered = LoweredBackendModule(
        edge_program=export(_Signature(shapes), inputs, strict=False),
        backend_id="XnnpackBackend",
        processed_bytes=builder.serialize(),
        compile_specs=[],
        named_data_store_output=builder.store.get_named_data_store_output(),
    )
    # not `lowered.buffer()`, which would copy all of it into memory at once
    wrapped = lowered.program()
    add_constants(wrapped, builder.unpacked)
    pieces = PTEFile(program=wrapped, named_data=lowered.named_data_store_output)
    return serialize_pte_binary(pieces, extract_delegate_segments=True, segment_alignment=SEGMENT_ALIGNMENT)


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Hide ExecuTorch's calls of deprecated functions of PyTorch and its own: nothing that a user could change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
