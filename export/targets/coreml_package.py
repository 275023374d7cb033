"""The content of a Core ML package, read from its own description: operators, constants, inputs and outputs.

Nothing here can run the package, so its structure is all that is checked after conversion.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.program.program import Program
from export.quiet import quietly
from export.targets.coreml_phases import phase_outputs

FLOATS = ("FLOAT16", "FLOAT32", "FLOAT64")
COMPRESSED = {"palettized6": "UINT6", "palettized4": "UINT4", "int8": "INT8"}
"""Precisions that compress the weights alone, and the type stored for each weight; arithmetic stays fp16."""

MIN_ELEMENTS = 2048
"""Least size of a weight that is compressed: below, tables and scales cost what they save (coremltools' default)."""


@dataclass(frozen=True)
class Constant:
    """A constant of a program: element type as the format names it ("FLOAT16", "UINT4"), and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


def read_spec(file: Path) -> Any:
    """Read the description (protobuf message) of a package."""
    with quietly():
        import coremltools as ct

        return ct.models.MLModel(str(file), skip_model_load=True).get_spec()


def operators(spec: Any) -> list[Any]:
    """All operators of the program, constants included."""
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    return list(block.operations)


def main_operations(spec: Any) -> list[Any]:
    """The operators that compute at run time: neither constants nor decompressed weights."""
    return [op for op in operators(spec) if op.type != "const" and not op.type.startswith("constexpr_")]


def operator_types(spec: Any) -> Counter[str]:
    """Number of operators of each type that are computed at run time; Core ML has no group normalization."""
    return Counter(op.type for op in main_operations(spec))


def constants(spec: Any) -> Mapping[str, Constant]:
    """Constants of the program by name."""
    return {op.outputs[0].name: _constant(op.outputs[0]) for op in operators(spec) if op.type == "const"}


def weight_names(spec: Any) -> list[str]:
    """Names of the weights that the program's products (convolutions, linear layers) take."""
    products = [op for op in main_operations(spec) if op.type in ("conv", "conv_transpose", "linear")]
    return [op.inputs["weight"].arguments[0].name for op in products]


def check_package(file: Path, program: Program, precision: str, kept: frozenset[str]) -> Any:
    """Read the package back; return its description.

    Raises:
        RuntimeError: the package is not the program that was asked for (inputs, outputs, precision of arithmetic and
            weights).
    """
    spec = read_spec(file)
    tensors = dict(zip(program.inputs, program.example, strict=True))
    references = next(iter(program.references.values()))
    outputs = dict(zip(program.outputs, references, strict=True))
    for described, expected in ((spec.description.input, tensors), (spec.description.output, outputs)):
        found = {feature.name: tuple(feature.type.multiArrayType.shape) for feature in described}
        wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        if found != wanted:
            raise RuntimeError(f"{file.name}: Core ML's converter wrote the arrays {found} instead of {wanted}")
    _check_arithmetic(file, spec, "FLOAT32" if precision == "fp32" else "FLOAT16")
    if precision in COMPRESSED:
        _check_weights(file, spec, precision, kept)
    return spec


def _check_arithmetic(file: Path, spec: Any, dtype: str) -> None:
    phases = phase_outputs(main_operations(spec))
    for op in main_operations(spec):
        if op.outputs[0].name in phases:
            continue
        found = _constant(op.outputs[0]).dtype
        if found in FLOATS and found != dtype and op.type != "cast":  # casts to float32 stand at inputs and outputs
            raise RuntimeError(f"{file.name}: {op.type} {op.outputs[0].name} is of {found}, the program is of {dtype}")


def _check_weights(file: Path, spec: Any, precision: str, kept: frozenset[str]) -> None:
    producers = {op.outputs[0].name: op for op in operators(spec)}
    values = constants(spec)
    for name in weight_names(spec):
        op = producers[name]
        if op.type == "const":
            if values[name].numel > MIN_ELEMENTS and name not in kept:
                raise RuntimeError(f"{file.name}: the weight {name} {values[name].shape} was not compressed")
            continue
        data = op.inputs["indices" if "indices" in op.inputs else "data"].arguments[0]
        bits = values[data.name].dtype if data.name else _value_dtype(data.value)
        if bits != COMPRESSED[precision]:
            raise RuntimeError(f"{file.name}: the weight {name} is stored in {bits} instead of {COMPRESSED[precision]}")


def _constant(value: Any) -> Constant:
    tensor = value.type.tensorType
    return Constant(_type_name(tensor.dataType), tuple(dimension.constant.size for dimension in tensor.dimensions))


def _value_dtype(value: Any) -> str:
    return _type_name(value.type.tensorType.dataType)


def _type_name(number: int) -> str:
    from coremltools.proto import MIL_pb2

    return MIL_pb2.DataType.Name(number)
