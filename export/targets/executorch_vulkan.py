"""`executorch-vulkan`: ExecuTorch on the phone's graphics processor."""

from __future__ import annotations

from typing import Any

from export.targets.decompositions import FOR_VULKAN
from export.targets.edge import EdgeTarget


class ExecutorchVulkan(EdgeTarget):
    """A .pte file with the whole graph in one Vulkan delegate; `export/targets/decompositions.py` makes that possible.

    fp16 stores and computes every tensor in 16 bits; inputs and outputs stay float32.
    """

    name = "executorch-vulkan"
    precisions = ("fp32", "fp16")
    table = FOR_VULKAN
    not_executed = "ExecuTorch's runtime for Linux has no Vulkan backend"

    def partitioner(self, precision: str) -> Any:
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return VulkanPartitioner({"force_fp16": precision == "fp16"})
