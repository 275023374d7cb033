"""The target `executorch-xnnpack`: from an exported graph to a .pte file, with the memory layout chosen here."""

from export.targets.xnnpack.lowering import NotDelegated, lower_by_partitioner, lower_to_file

__all__ = ["NotDelegated", "lower_by_partitioner", "lower_to_file"]
