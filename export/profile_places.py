"""Which module of the model an operator of a trace belongs to.

XNNPACK names operators by kind and runs them in the order of its graph, but not one to one: a square and the mean behind
it become one, reshapes that change nothing vanish, a 1x1 convolution becomes a fully connected layer. So the two
sequences are tied together at the operators that come through as they are (all kinds of which the trace has exactly as
many as the graph), and what lies between two such ties is counted to the one behind it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from export.profile import Event, OperatorTime, by_operator
from export.xnnpack.graph import GraphBuilder

LAYER = "layer"
EVENT_KINDS = (
    ("Convolution", LAYER),
    ("Fully Connected", LAYER),
    ("Batch Matrix Multiply", "XNNBatchMatrixMultiply"),
    ("Mean Squared", "XNNSquare"),
    ("Square", "XNNSquare"),
    ("Multiply", "XNNMultiply"),
    ("Add", "XNNAdd"),
    ("Subtract", "XNNSubtract"),
    ("Sigmoid", "XNNSigmoid"),
    ("GELU", "XNNGelu"),
    ("Softmax", "XNNSoftmax"),
    ("Transpose", "XNNStaticTranspose"),
)
"""How the runtime's name of an operator begins, and which nodes of the graph it may stand for."""
NODE_KINDS = {"XNNConv2d": LAYER, "XNNFullyConnected": LAYER}
PARTS = (
    (r"\.temporal_res_block\b", "residual block, temporal"),
    (r"\.resnets\.", "residual block, spatial"),
    (r"\.temporal_transformer_blocks\.\d+\.attn", "temporal attention"),
    (r"\.temporal_transformer_blocks\.", "temporal transformer, the rest"),
    (r"\.transformer_blocks\.\d+\.attn", "spatial attention"),
    (r"\.attentions\.", "spatial transformer, the rest"),
    (r"\.(downsamplers|upsamplers)\.", "resampling"),
)


def locate(events: Sequence[Event], graph: GraphBuilder) -> list[str] | None:
    """For each event the path of its module, "" for the model itself; None if the trace does not fit the graph.

    Args:
        graph: which the program was made from (`translate`), labelled.
    """
    nodes: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.nodes):
        name = type(node.xnode_union).__name__
        nodes[NODE_KINDS.get(name, name)].append(index)
    found: dict[str, list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        if kind := next((kind for start, kind in EVENT_KINDS if event.operator.startswith(start)), None):
            found[kind].append(index)
    ties = sorted(
        tie for kind, at in found.items() if len(at) == len(nodes[kind]) for tie in zip(at, nodes[kind], strict=True)
    )
    order = [node for _, node in ties]
    if not ties or order != sorted(order):
        return None
    paths = []
    following = 0
    for index in range(len(events)):
        while following + 1 < len(ties) and ties[following][0] < index:
            following += 1
        paths.append(graph.labels[ties[following][1]])
    return paths


def by_block(events: Iterable[Event], paths: Iterable[str]) -> list[OperatorTime]:
    """Time per block of the UNet ("down_blocks.0", "mid_block", "conv_in"), the model's own operators under "the rest"."""

    def block(path: str) -> str:
        match = re.match(r"(?:unet\.)?(\w+_blocks\.\d+|\w+)", path)
        return match[1] if match else "the rest"

    return by_operator(Event(block(path), event.ms) for event, path in zip(events, paths, strict=True))


def by_part(events: Iterable[Event], paths: Iterable[str]) -> list[OperatorTime]:
    """Time per kind of block, over the whole UNet (`PARTS`)."""

    def part(path: str) -> str:
        return next((name for pattern, name in PARTS if re.search(pattern, path)), "the rest")

    return by_operator(Event(part(path), event.ms) for event, path in zip(events, paths, strict=True))
