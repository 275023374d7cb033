"""Constants of an ExecuTorch program that its delegate takes as inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from executorch.exir.scalar_type import ScalarType
from executorch.exir.schema import (
    Buffer,
    DelegateCall,
    EValue,
    Program,
    Tensor,
    TensorShapeDynamism,
)

SCALAR_TYPES = {"float32": ScalarType.FLOAT, "float16": ScalarType.HALF}
READ_BEYOND_BYTES = 128
"""Bytes behind the last constant: XNNPACK's kernels read whole vectors, so up to some bytes behind an operand's end."""


def add_constants(program: Program, constants: Sequence[np.ndarray]) -> None:
    """Store `constants` in a program with one delegate call, and append them to that call's inputs."""
    if not constants:
        return
    (plan,) = program.execution_plan
    (call,) = (step.instr_args for chain in plan.chains for step in chain.instructions)
    assert isinstance(call, DelegateCall)
    added = []
    for array in constants:
        program.constant_buffer.append(Buffer(array.tobytes()))
        plan.values.append(EValue(_tensor(array, len(program.constant_buffer) - 1)))
        added.append(len(plan.values) - 1)
    program.constant_buffer.append(Buffer(bytes(READ_BEYOND_BYTES)))
    outputs = len(call.args) - len(plan.outputs)
    call.args[outputs:outputs] = added


def _tensor(array: np.ndarray, buffer: int) -> Tensor:
    return Tensor(
        scalar_type=SCALAR_TYPES[array.dtype.name],
        storage_offset=0,
        sizes=list(array.shape),
        dim_order=list(range(array.ndim)),
        requires_grad=False,
        layout=0,
        data_buffer_idx=buffer,
        allocation_info=None,
        shape_dynamism=TensorShapeDynamism.STATIC,
    )
