"""The sines and cosines of the micro-conditioning in a Core ML program, which stay in float32 with what leads to them.

Core ML's converter chooses the precision operator by operator and does not know the module that one came from; sines
and cosines occur nowhere else in these models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SINES = ("sin", "cos")
STEPS = ("cast", "expand_dims", "mul", "reshape", "squeeze")
"""Operators between an input and its phases."""


def feeds_only_phases(operation: Any) -> bool:
    """True for a sine or cosine of coremltools' graph, and for a step whose results go to such ones alone."""
    if operation.op_type in SINES:
        return True
    if operation.op_type not in STEPS:
        return False
    users = [user for output in operation.outputs for user in output.child_ops]
    return bool(users) and all(feeds_only_phases(user) for user in users)


def phase_outputs(operations: Sequence[Any]) -> set[str]:
    """Names of the results of such operators, in a finished package's description."""
    users: dict[str, list[Any]] = {}
    for op in operations:
        for given in op.inputs.values():
            for argument in given.arguments:
                users.setdefault(argument.name, []).append(op)
    found: set[str] = set()
    for op in reversed(operations):
        behind = users.get(op.outputs[0].name, [])
        if op.type in SINES or (op.type in STEPS and behind and all(user.outputs[0].name in found for user in behind)):
            found.add(op.outputs[0].name)
    return found
