"""What of a program runs in its backend and what is left outside: read from the .pte file itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.schema import DelegateCall, ExecutionPlan, KernelCall
from executorch.exir.schema import Tensor as ProgramTensor

MAX_SHAPES = 4  # of one operator outside; the rest repeats


@dataclass(frozen=True)
class OutsideOperator:
    """An operator that no backend took: its name, how often it is called, the shapes of its tensors (first few calls)."""

    op: str
    count: int
    shapes: list[list[list[int]]]


@dataclass(frozen=True)
class Delegation:
    """Number of delegates of a program, and the operators outside of them."""

    delegates: int
    operators_outside: list[OutsideOperator]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def delegation_of(program: bytes, method: str = "forward") -> Delegation:
    """Count the calls of a method of a .pte file's content."""
    plans = deserialize_pte_binary(program).program.execution_plan
    plan = next(plan for plan in plans if plan.name == method)
    delegates: set[int] = set()
    outside: dict[str, OutsideOperator] = {}
    for chain in plan.chains:
        for instruction in chain.instructions:
            call = instruction.instr_args
            if isinstance(call, DelegateCall):
                delegates.add(call.delegate_index)
            elif isinstance(call, KernelCall):
                operator = plan.operators[call.op_index]
                name = f"{operator.name}.{operator.overload}" if operator.overload else operator.name
                before = outside.get(name, OutsideOperator(name, 0, []))
                shapes = [*before.shapes, _shapes(plan, call.args)][:MAX_SHAPES]
                outside[name] = OutsideOperator(name, before.count + 1, shapes)
    return Delegation(len(delegates), sorted(outside.values(), key=lambda o: -o.count))


def _shapes(plan: ExecutionPlan, arguments: list[int]) -> list[list[int]]:
    values = [plan.values[index].val for index in arguments]
    return [list(value.sizes) for value in values if isinstance(value, ProgramTensor)]
