"""The precision of every node of a captured graph, by the module it was made from."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Set

import onnx_ir as ir

from export.program.layer_precision import IN_FULL_PRECISION
from mobilevd.errors import UserError

SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
MAX_NAMED = 12  # largest number of layers in an error message


def precisions_of_nodes(
    model: ir.Model, precision: str, layers: Mapping[str, str], known: tuple[str, ...]
) -> dict[str, str]:
    """Return the precision of every node by name; int8 only where there is a weight to quantize.

    Args:
        precision: precision of everything that `layers` does not name.
        layers: name of a module relative to the UNet (for other programs, to the program's module) -> precision; the
            innermost name counts.
        known: all precisions; one graph can mix them.

    Raises:
        UserError: a layer's precision is not known, or no node belongs to a layer.
    """
    for layer, own in layers.items():
        if own not in known:
            raise UserError(f"layer {layer}: onnx has no precision {own!r}; it has {', '.join(known)}")
    asked = {**IN_FULL_PRECISION, **layers}
    chosen, found = {}, set()
    given: set[ir.Value] = set()
    for node in model.graph:
        scopes = scopes_of(node)
        of_node = [layer for layer in asked if any(f"{scope}.".startswith(f"{layer}.") for scope in scopes)]
        found.update(of_node)
        own = asked[max(of_node, key=len)] if of_node else precision
        if own == "int8" and not quantizable(node):
            own = "fp32"
        if own == "fp16" and is_norm(node):
            own = "fp32"  # sums of squares over a whole clip leave the range and the precision of half floats
        if own == "fp16" and node.op_type == "Concat" and _joins_float32(node, chosen):
            own = "fp32"  # it only moves numbers, and must not round those of a layer kept in float32
        if own == "fp16" and node.op_type in MOVES and all(_given(value, given) for value in node.inputs[:1]):
            given.update(node.outputs)
            own = "fp32"  # nor those of an input that goes to such a layer
        chosen[node.name] = own
    if missing := sorted(set(layers) - found):
        there = sorted({scope for node in model.graph for scope in scopes_of(node) if scope.count(".") <= 1})
        raise UserError(
            f"no layer of the program is named {missing[0]!r} (it may have been folded away); there are, for example, "
            f"{', '.join(there[:MAX_NAMED])}"
        )
    return chosen


def scopes_of(node: ir.Node) -> list[str]:
    """The modules around a node, outermost first, with names as the UNet has them."""
    names = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))[:-1]  # the last one is the operator
    return [name.removeprefix("module.").removeprefix("unet.") for name in names if name]


def _given(value: ir.Value | None, given: Set[ir.Value]) -> bool:
    """True for an input of the graph, and for an input that was only reshaped."""
    return value is not None and (value.is_graph_input() or value in given)


def _joins_float32(node: ir.Node, chosen: Mapping[str, str]) -> bool:
    producers = [value.producer() for value in node.inputs if value is not None]
    return any(producer is not None and chosen.get(producer.name or "") == "fp32" for producer in producers)


def is_norm(node: ir.Node) -> bool:
    """True if a node is a part of a normalization."""
    classes = ast.literal_eval(node.metadata_props.get(CLASSES, "[]"))[:-1]
    return bool(classes) and classes[-1].rsplit(".", 1)[-1].endswith("Norm")


def quantizable(node: ir.Node) -> bool:
    """True for convolutions, and for linear layers of more than one row.

    A linear layer of one row (of the image embedding, of the micro-conditioning) costs nothing, and its inputs differ
    most from the calibration's: left in float32 they gain 8 to 11 dB on inputs of another kind.
    """
    if node.op_type == "Conv":
        return True
    if node.op_type not in ("MatMul", "Gemm"):
        return False
    rows, weight = node.inputs[0], node.inputs[1]
    if rows is None or weight is None or weight.const_value is None or rows.shape is None:
        return False
    count = 1
    for size in rows.shape.numpy()[:-1]:
        count *= size
    return count > 1
