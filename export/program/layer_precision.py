"""The precision of a layer: the program's, unless the layer or a block around it is named as an exception."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

LayerPrecisions = Mapping[str, str]
"""Exceptions from a program's precision: name of a submodule (all layers inside it) -> its own precision."""


IN_FULL_PRECISION: LayerPrecisions = {"add_time_proj": "fp32"}
"""Layers that no target computes in half precision: the phases of the micro-conditioning, where it is an input. In half
precision 127 rad has steps of 1/16."""


def precision_of(path: str, precision: str, layers: LayerPrecisions | None) -> str:
    """The precision of the module at `path`; of several exceptions that contain it, the innermost counts.

    Args:
        path: dotted path, as in the graph ("unet.down_blocks.0.resnets.0.spatial_res_block.conv1").
        layers: exceptions, by names that need not begin at the graph's root ("down_blocks.0").
    """
    best, depth = precision, -1
    for name, own in (layers or {}).items():
        if f".{name}." in f".{path}." and name.count(".") > depth:
            best, depth = own, name.count(".")
    return best


def module_path(node: fx.Node) -> str:
    """Dotted path of the innermost module that a node of an exported graph belongs to; "" for the root."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = list(stack.values())[-1][0]
    return path.removeprefix("L['self'].").removeprefix("L['self']")


def module_class(node: fx.Node) -> str:
    """Name of the class of the innermost module that a node of an exported graph belongs to; "" for the root."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    kind = list(stack.values())[-1][1]
    return (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
