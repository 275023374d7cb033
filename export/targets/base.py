"""The contract of an export target: a runtime with its backend, its precisions, and how programs are lowered to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, fx

from export.program.delegation import Delegation
from export.program.layer_precision import IN_FULL_PRECISION, LayerPrecisions, module_path, precision_of
from export.program.program import Program
from mobilevd.errors import UserError


class Target(ABC):
    """A runtime and backend that programs are lowered to.

    Attributes:
        name: the name that the user gives.
        precisions: the precisions that it has; the first is the default.
        suffix: suffix of the program's file (or folder: `.mlpackage`).
        phone_form: operators are in the phone form (`mobilevd/model/layers/ops.py`), else in the native one.
        ladders: precisions that blocks of one program may have side by side, from low to high.
        calibrated: its int8 has fixed ranges of activations, taken from calibration inputs.
        not_executed: the reason why its programs cannot be run on this host; None if they can.
        tools: packages that make the program, for the manifest.
        has_weight_cache: its programs also run in builds of the runtime with XNNPACK's weight cache, and must be right
            there (`export/proof/builds.py`).
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    suffix: ClassVar[str]
    phone_form: ClassVar[bool] = False
    ladders: ClassVar[tuple[tuple[str, ...], ...]] = ()
    calibrated: ClassVar[bool] = False
    not_executed: ClassVar[str | None] = None
    tools: ClassVar[tuple[str, ...]] = ()
    has_weight_cache: ClassVar[bool] = False

    def check_available(self) -> None:
        """Raise UserError if this machine lacks something that the target needs: what, which version, and where."""
        return

    def check_precision(self, precision: str) -> None:
        """Raise UserError, listing the known ones, for a precision that this target does not have."""
        if precision not in self.precisions:
            raise UserError(f"target {self.name} has no precision {precision!r}; it has {', '.join(self.precisions)}")

    def computes_in_half(self, node: fx.Node, precision: str, layers: LayerPrecisions | None = None) -> bool:
        """True if an operator of a program's graph in phone form is computed in half precision on the device."""
        return precision_of(module_path(node), precision, {**IN_FULL_PRECISION, **(layers or {})}) == "fp16"

    def arithmetic(self, precision: str, layers: LayerPrecisions | None = None) -> str:
        """The arithmetic of `run` on this host, for the manifest: what a run here says of a run on a phone."""
        return "float32"

    @abstractmethod
    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        """Write `program` to `file`, and return which of its operators run in the backend.

        Args:
            precision: one of `precisions`.
            layers: submodules with another precision than the rest.
        """

    @abstractmethod
    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        """Run a program on this host; only if `not_executed` is None."""


def program_size(file: Path) -> int:
    """Size of a program in bytes: its file, or all files in its folder, with weights beside it under its name."""
    if file.is_dir():
        return sum(part.stat().st_size for part in file.rglob("*") if part.is_file())
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*") if part.is_file())
