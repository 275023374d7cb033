"""Lowering of a module or a graph to the bytes of a .pte file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.export import ExportedProgram, export

from export.program.delegation import Delegation
from export.targets.xnnpack import lower_to_file


def lower_exported(
    graph: ExportedProgram, precision: str = "fp32", layers: Mapping[str, str] | None = None
) -> tuple[bytes, Delegation]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.pte"
        delegation = lower_to_file(graph, file, precision, layers)
        return file.read_bytes(), delegation


def lower_to_xnnpack(
    module: nn.Module, inputs: Sequence[Tensor], precision: str = "fp32", layers: Mapping[str, str] | None = None
) -> tuple[bytes, Delegation]:
    return lower_exported(export(module, tuple(inputs), strict=False), precision, layers)
