"""The targets, one file each: what a bundle can be exported to."""

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
"""By name. A new target is a line here and a file of this folder; its libraries are imported when they are used."""


def find_target(name: str) -> Target:
    """The target of that name; UserError lists the known ones."""
    if name not in TARGETS:
        raise UserError(f"unknown target {name!r}; known are {', '.join(TARGETS)}")
    return TARGETS[name]


def parse_target(text: str, precision: str | None = None) -> tuple[Target, str]:
    """`NAME` or `NAME:PRECISION` -> the target and its precision; without one, `precision`, or the target's default.

    Raises UserError for what is not known.
    """
    name, _, own = text.partition(":")
    target = find_target(name)
    chosen = own or precision or target.precisions[0]
    target.check_precision(chosen)
    return target, chosen
