"""The targets that a bundle can be exported to, one file each."""

from __future__ import annotations

from export.targets.base import Target
from export.targets.coreml import Coreml
from export.targets.executorch_coreml import ExecutorchCoreml
from export.targets.executorch_qnn import ExecutorchQnn
from export.targets.executorch_vulkan import ExecutorchVulkan
from export.targets.executorch_xnnpack import ExecutorchXnnpack
from export.targets.onnx import Onnx
from mobilevd.errors import UserError

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        ExecutorchXnnpack(),
        ExecutorchCoreml(),
        ExecutorchVulkan(),
        ExecutorchQnn(),
        Coreml(),
        Onnx(),
    )
}
"""Targets by name. A new one takes a line here and a file in this folder, which imports its libraries on first use."""


def find_target(name: str) -> Target:
    """Return the target of that name; UserError lists the known ones."""
    if name not in TARGETS:
        raise UserError(f"unknown target {name!r}; known are {', '.join(TARGETS)}")
    return TARGETS[name]


def parse_target(text: str, precision: str | None = None) -> tuple[Target, str]:
    """`NAME` or `NAME:PRECISION` -> the target and its precision; without one, `precision`, or the target's default.

    Raises UserError for an unknown target or precision.
    """
    name, _, own = text.partition(":")
    target = find_target(name)
    chosen = own or precision or target.precisions[0]
    target.check_precision(chosen)
    return target, chosen
