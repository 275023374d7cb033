"""`executorch-coreml`: ExecuTorch on Apple devices, the graph inside a Core ML delegate."""

from __future__ import annotations

from typing import Any

from export.targets.decompositions import FOR_COREML
from export.targets.edge import EdgeTarget


class ExecutorchCoreml(EdgeTarget):
    """A .pte file for iOS 18, macOS 15 or newer; the target `coreml` makes a package for Core ML itself."""

    name = "executorch-coreml"
    precisions = ("fp16", "fp32")
    table = FOR_COREML
    not_executed = "Core ML runs on Apple systems only"
    tools = ("torch", "executorch", "coremltools")

    def partitioner(self, precision: str) -> Any:
        import coremltools as ct
        from executorch.backends.apple.coreml.compiler import CoreMLBackend
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner

        specs = CoreMLBackend.generate_compile_specs(
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS18,
        )
        return CoreMLPartitioner(compile_specs=specs)
