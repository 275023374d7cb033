"""The capture of a program as an ONNX graph in float32; every initializer of a weight is the module's own tensor."""

from __future__ import annotations

from typing import Any, cast

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnx_ir.tensor_adapters import TorchTensor
from torch import Tensor, nn

from export.program.program import Program
from export.quiet import quietly
from mobilevd.model.layers.attention import GEGLU
from mobilevd.model.layers.ops import ScaledDotProduct, set_phone_form


def spell_for_onnx(module: nn.Module) -> None:
    """Give the operators the form that ONNX Runtime is fastest with.

    Norms and upsampling stay native (it has kernels for them, and a quantizer leaves them alone), but the gated GELU
    becomes two products (its `Split` along the channels is slow) and attention is computed in pieces (the scores of a
    whole level would be written to memory: over a gigabyte at SVD's size).
    """
    set_phone_form(module, False)
    for part in module.modules():
        if isinstance(part, GEGLU | ScaledDotProduct):
            part.phone_form = True


def capture(program: Program) -> ir.Model:
    """Return the program's graph, of batch 1 and static shapes, with named inputs and outputs; no weight is copied."""
    spell_for_onnx(program.module)
    with quietly(), torch.no_grad():
        exported = torch.onnx.export(
            program.module,
            program.example,
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = cast(ir.Model, exported.model)
    fold_weight_views(model)
    fold_constants(model)
    return model


def fold_weight_views(model: ir.Model) -> None:
    """Turn transposed and split weights into initializers of their own: views, which take memory only while written.

    The exporter leaves the views of larger weights to the runtime, which would compute and keep a copy of each; and a
    quantizer takes only initializers for weights.
    """
    graph = model.graph
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type not in _VIEWS or source is None or not source.is_initializer() or source.const_value is None:
            continue
        views = _VIEWS[node.op_type](node, _torch(source.const_value))
        for output, view in zip(node.outputs, views, strict=True):
            folded = ir.Value(
                name=f"{output.name}", shape=ir.Shape(view.shape), type=output.type, const_value=TorchTensor(view)
            )
            output.name = f"{output.name}_before_folding"
            output.replace_all_uses_with(folded)
            graph.register_initializer(folded)
        graph.remove(node, safe=True)
    RemoveUnusedNodesPass()(model)  # with the initializers that nothing uses any more


def fold_constants(model: ir.Model) -> None:
    """Turn what follows from constants alone (the frames' positions, through two linear layers) into initializers.

    The runtime would fold it too, but not once it is quantized. After `fold_weight_views`, nothing of a weight's size
    is computed here.
    """
    from onnxscript import optimizer

    def constant(node: ir.Node) -> bool:
        return bool(node.inputs) and all(value is None or value.is_initializer() for value in node.inputs)

    with quietly():
        optimizer.fold_constants(model, onnx_shape_inference=False, should_fold=constant)
    RemoveUnusedNodesPass()(model)


def _torch(tensor: Any) -> Tensor:
    """An initializer's values, sharing their memory if they are a module's."""
    raw = getattr(tensor, "raw", None)
    return raw.detach() if isinstance(raw, Tensor) else torch.from_numpy(tensor.numpy())


def _transposed(node: ir.Node, weight: Tensor) -> list[Tensor]:
    permutation = node.attributes.get_ints("perm", list(reversed(range(weight.ndim))))
    return [weight.permute(*permutation)]


def _split(node: ir.Node, weight: Tensor) -> list[Tensor]:
    axis = node.attributes.get_int("axis", 0)
    sizes = [int(cast(Any, output.shape)[axis]) for output in node.outputs]
    return list(weight.split(sizes, dim=axis))


_VIEWS = {"Transpose": _transposed, "Split": _split}
