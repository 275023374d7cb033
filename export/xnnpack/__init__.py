"""The target `executorch-xnnpack`: from an exported graph to a .pte file, with the layout of memory chosen here."""

from export.xnnpack.lowering import NotDelegated, lower_by_partitioner, lower_exported, lower_to_file, lower_to_xnnpack

__all__ = ["NotDelegated", "lower_by_partitioner", "lower_exported", "lower_to_file", "lower_to_xnnpack"]
