"""Graphs on disk and in ONNX Runtime: written (large weights beside the graph), checked, opened."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

# A protobuf message, so also a file with its weights inside, ends at 2 GiB; the graph itself takes a few megabytes.
EXTERNAL_ABOVE_BYTES = 2**31 - 2**27
ERRORS_ONLY = 3  # ONNX Runtime's severity


def write_graph(model: ir.Model, file: Path, external: bool | None = None) -> None:
    """Write `file`, and its weights to `FILE.data` beside it if one file cannot hold them (or `external` says so).

    Weights are written one after the other, none held in memory. Both files appear under their names when complete.
    """
    if external is None:
        external = weights_bytes(model) > EXTERNAL_ABOVE_BYTES
    data = f"{file.name}.data"
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".tmp-") as folder:
        ir.save(model, Path(folder) / file.name, external_data=data if external else None)
        written = Path(folder) / data
        (file.parent / data).unlink(missing_ok=True)  # weights of an earlier program
        if written.exists():
            os.replace(written, file.parent / data)
        os.replace(Path(folder) / file.name, file)


def weights_bytes(model: ir.Model) -> int:
    """Size of all initializers in bytes."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def strip_origin(model: ir.Model) -> None:
    """Remove what the exporter wrote about this machine and its Python code (stack traces, paths of source files)."""
    ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()


def check_graph(file: Path) -> onnx.ModelProto:
    """Run ONNX's checker on a written graph and check that every size is a number; return it without its weights.

    Raises:
        onnx.checker.ValidationError: the graph is not valid.
        ValueError: a tensor has a size that is not fixed.
    """
    onnx.checker.check_model(str(file))
    proto = onnx.load(file, load_external_data=False)
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if not size.HasField("dim_value"):
                raise ValueError(
                    f"{file.name}: the tensor {value.name} has a size that is not fixed ({size.dim_param!r})"
                )
    return proto


def session(file: Path, threads: int | None, pack_weights: bool = True) -> Any:
    """Open ONNX Runtime's session of a graph on the processor.

    Args:
        threads: threads of one operator; None leaves it to the runtime (one per core).
        pack_weights: keep a second copy of the weights, laid out for speed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # x86 without VNNI adds pairs of 8-bit products in 16 bits, which saturate: 28 dB where other processors, phones among
    # them, have 52. This takes exact kernels there, and changes nothing elsewhere.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not pack_weights:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
