"""Lowering of a module or a graph to the bytes of a .pte file, and a memory of what was traced."""

from __future__ import annotations

import hashlib
import io
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export
from torch.fx import GraphModule

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


@contextmanager
def equal_models_traced_once() -> Iterator[None]:
    """Tracing takes most of a lowering's time, and many tests begin with the same model: what is equal, is traced once.

    Equal to the byte: structure, weights, every attribute, and the inputs to trace with.
    """
    graphs: dict[str, ExportedProgram] = {}

    def cached(module: nn.Module, inputs: tuple[Tensor, ...], **keywords: Any) -> ExportedProgram:
        content = io.BytesIO()
        try:
            if any(isinstance(part, GraphModule) for part in module.modules()):
                raise TypeError("saved without what its nodes know of their origin")
            torch.save((module, inputs, keywords), content)
        except (AttributeError, TypeError, pickle.PicklingError):  # with hooks, for instance
            return export(module, inputs, **keywords)
        key = hashlib.sha256(content.getbuffer()).hexdigest()
        if key not in graphs:
            graphs[key] = export(module, inputs, **keywords)
        return graphs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.program.program.export", cached)
        yield
