"""`executorch-qnn`: ExecuTorch on Qualcomm's tensor processor (Hexagon, HTP)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from export.program.delegation import Delegation, delegation_of_edge
from export.program.layer_precision import LayerPrecisions
from export.program.program import Program
from export.quiet import native_output_held, quietly
from export.targets.base import Target
from export.targets.decompositions import WITH_AFFINE
from export.targets.edge import exported, refuse_layers
from export.targets.full_precision import in_full_precision
from export.targets.qnn_sdk import check_sdk
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_bytes

CHIP = "MOBILEVD_QNN_CHIP"  # name of the environment variable


class ExecutorchQnn(Target):
    """A .pte file compiled for one chip; needs Qualcomm's SDK (`export/targets/qnn_sdk.py`).

    Attributes:
        default_chip: the chip to compile for, unless the environment variable MOBILEVD_QNN_CHIP names another;
            Qualcomm's part number (SM8650 is the Snapdragon 8 Gen 3).
    """

    name = "executorch-qnn"
    precisions = ("fp16",)
    suffix = ".pte"
    not_executed = "the program is compiled for a Snapdragon's Hexagon processor"
    tools = ("torch", "executorch")
    default_chip: ClassVar[str] = "SM8650"

    def check_available(self) -> None:
        try:
            with quietly():
                import executorch.backends.qualcomm.python.PyQnnManagerAdaptor  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"target {self.name}: this ExecuTorch comes without its Qualcomm backend ({error}); its wheel for Linux on "
                "x86-64 has it"
            ) from None
        check_sdk(self.name)

    def compile_specs(self) -> list[Any]:
        """ExecuTorch's compile options: the chip, and fp16 on the HTP; UserError lists the known chips."""
        with quietly():
            from executorch.backends.qualcomm.utils.utils import (
                generate_htp_compiler_spec,
                generate_qnn_executorch_compiler_spec,
                get_soc_to_chipset_map,
            )

        chips = get_soc_to_chipset_map()
        chip = os.environ.get(CHIP) or self.default_chip
        if chip not in chips:
            raise UserError(f"{CHIP}: unknown chip {chip!r}; known are {', '.join(sorted(chips))}")
        return generate_qnn_executorch_compiler_spec(
            soc_model=chips[chip], backend_options=generate_htp_compiler_spec(use_fp16=True)
        )

    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        refuse_layers(self, layers)
        if any(in_full_precision(node) for node in program.graph(self.phone_form).graph.nodes):
            raise UserError(
                f"target {self.name} computes the micro-conditioning's phases in half precision, in which 127 rad has "
                "steps of 1/16; leave --conditioning-inputs away for it"
            )
        self.check_available()
        specs = self.compile_specs()
        mkldnn = torch.backends.mkldnn.enabled  # ExecuTorch turns it off on AMD hosts, for the whole process
        with native_output_held() as said, quietly():
            from executorch.backends.qualcomm.utils.utils import to_edge_transform_and_lower_to_qnn

            try:
                graph = exported(program.module, program.example, WITH_AFFINE).module()
                inputs: Any = program.example  # any number of them, whatever the annotation says
                edge = to_edge_transform_and_lower_to_qnn(graph, inputs, specs)
                delegation = delegation_of_edge(edge.exported_program())
                content = bytes(edge.to_executorch().buffer)
            except RuntimeError as error:
                if "QNN" not in str(error):
                    raise
                errors = [line for line in said().splitlines() if "ERROR" in line]
                raise UserError(f"target {self.name}: Qualcomm's SDK failed: {error} {' '.join(errors)}") from error
            finally:
                torch.backends.mkldnn.enabled = mkldnn
        atomic_write_bytes(file, content)
        return delegation

    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        raise UserError(f"{file}: {self.not_executed}")
