"""Static quantization to 8 bits by ONNX Runtime's quantizer, with ranges from the calibration inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass

from export.program.program import Inputs
from export.quiet import quietly
from export.targets.onnx_graph.files import session, write_graph
from mobilevd.errors import UserError

QUANTIZED_TYPES = ("Conv", "MatMul", "Gemm")

Ranges = dict[str, tuple[np.ndarray, np.ndarray]]
"""Least and largest value by tensor, each an array of rank 0."""


def quantize(model: ir.Model, names: set[str], calibration: Sequence[Inputs]) -> ir.Model:
    """Return the graph with the nodes `names` in int8: weights symmetric, per output channel; activations per tensor.

    Inputs of all of them and outputs of the convolutions are quantized, so that the runtime's integer kernels take
    them; outputs of linear layers are not, which costs no time and gains 1 to 3 dB.

    Raises:
        UserError: there is nothing to calibrate on.
    """
    if not calibration:
        raise UserError("int8 needs calibration inputs to take the activations' ranges from; none were given")
    if not names:
        return model
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    ranges = activation_ranges(model, names, calibration)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.onnx"
        write_graph(model, file)
        proto = onnx.load(file)  # the one copy of the weights; without the mark the quantizer would make a second
    add_infer_metadata(proto)
    with quietly():
        quantizer = QDQQuantizer(
            proto,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, dict(ranges)),
            nodes_to_quantize=sorted(names),
            nodes_to_exclude=[],
            op_types_to_quantize=list(QUANTIZED_TYPES),
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
        quantizer.quantize_model()
    del quantizer.model.model.metadata_props[:]
    quantized = ir.from_proto(quantizer.model.model)
    TopologicalSortPass()(quantized)  # the quantizer appends its nodes at the end
    _name_types(quantized)
    return quantized


def _name_types(model: ir.Model) -> None:
    """Add types and shapes of what the quantizer's nodes make, which it leaves out."""
    for node in model.graph:
        source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
        if source is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        dtype = ir.DataType.INT8 if node.op_type == "QuantizeLinear" else ir.DataType.FLOAT
        output.shape, output.type = output.shape or source.shape, ir.TensorType(dtype)  # a graph's outputs have theirs


def activation_ranges(model: ir.Model, names: set[str], calibration: Sequence[Inputs]) -> Ranges:
    """Ranges of all that the quantizer quantizes, over the calibration inputs.

    The extremes are taken inside the graph: a level's activations alone can be hundreds of megabytes.
    """
    chosen = [node for node in model.graph if node.name in names]
    tensors = dict.fromkeys(str(v.name) for node in chosen for v in (*node.inputs[:1], *node.outputs) if v is not None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calibrated.onnx"
        write_graph(model, file, external=True)
        proto = onnx.load(file, load_external_data=False)
        _tap_extremes(proto, list(tensors))
        onnx.save(proto, file)
        runtime = session(file, None, pack_weights=False)
        taken = []
        for inputs in calibration:
            values = runtime.run(
                [f"{end}_{i}" for i in range(len(tensors)) for end in ("least", "most")],
                {name: tensor.numpy() for name, tensor in inputs.items()},
            )
            taken.append(np.asarray(values, dtype=np.float32).reshape(len(tensors), 2))
        del runtime
    least, most = np.min(taken, axis=0)[:, 0], np.max(taken, axis=0)[:, 1]
    return {name: (np.asarray(low), np.asarray(high)) for name, low, high in zip(tensors, least, most, strict=True)}


def _tap_extremes(proto: onnx.ModelProto, tensors: Sequence[str]) -> None:
    """Give the graph outputs `least_I` and `most_I` for the I-th tensor."""
    for i, tensor in enumerate(tensors):
        for op, end in (("ReduceMin", "least"), ("ReduceMax", "most")):
            name = f"{end}_{i}"
            proto.graph.node.append(onnx.helper.make_node(op, [tensor], [name], name=name, keepdims=0))
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
