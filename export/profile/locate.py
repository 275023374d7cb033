"""The module of the model that an operator of a trace belongs to.

XNNPACK names operators by kind and runs them in the order of its graph, but not one to one: a square and the mean
behind it become one, reshapes that change nothing vanish, a 1x1 convolution becomes a fully connected layer. So the two
sequences are matched at the operators that come through as they are (all kinds of which the trace has exactly as many
as the graph), and an operator between two matches counts as part of the later one.

Where XNNPACK puts in conversions of its own (half precision on a processor that has no arithmetic for it) it also sorts
the graph anew, and operators that depend only on an input of the program come first. A few such are recognized.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from export.profile.origins import Origin
from export.profile.trace import Event, OperatorTime, by_operator
from mobilevd.model.anatomy import (
    DOWNSAMPLER,
    RESIDUAL_BLOCK,
    SPATIAL_RESIDUAL,
    SPATIAL_TRANSFORMER,
    TEMPORAL_RESIDUAL,
    TEMPORAL_TRANSFORMER,
    TRANSFORMER,
    TRANSFORMER_OUTPUT,
    UPSAMPLER,
    block_at,
    in_unet,
    is_attention,
    stage_at,
)

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
"""The beginning of the runtime's name of an operator, and the kind of node in the graph that it stands for."""
NODE_KINDS = {"XNNConv2d": LAYER, "XNNFullyConnected": LAYER}
PARTS = {
    RESIDUAL_BLOCK: "residual block, spatial",
    SPATIAL_RESIDUAL: "residual block, spatial",
    TEMPORAL_RESIDUAL: "residual block, temporal",
    TRANSFORMER: "spatial transformer, the rest",
    SPATIAL_TRANSFORMER: "spatial transformer, the rest",
    TEMPORAL_TRANSFORMER: "temporal transformer, the rest",
    TRANSFORMER_OUTPUT: "spatial transformer, the rest",
    DOWNSAMPLER: "resampling",
    UPSAMPLER: "resampling",
}
ATTENTION_PARTS = {SPATIAL_TRANSFORMER: "spatial attention", TEMPORAL_TRANSFORMER: "temporal attention"}
REST = "the rest"


MAX_MOVED = 0.05
"""Largest share of the matched operators that may come earlier than in the graph; with more, a match is a guess."""


def locate(events: Sequence[Event], places: Sequence[Origin]) -> list[str] | None:
    """Return the path of each event's module, "" for the model itself; None if the trace does not fit the graph.

    Args:
        places: origins of the graph that the program was made from (`origins_of`).
    """
    kinds = [next((kind for start, kind in EVENT_KINDS if event.operator.startswith(start)), "") for event in events]
    node_kinds = [NODE_KINDS.get(place.kind, place.kind) for place in places]
    in_trace, in_graph = Counter(kinds), Counter(node_kinds)
    equal = {kind for kind, count in in_trace.items() if kind and count == in_graph[kind]}
    ties = _tie(
        [(i, kind) for i, kind in enumerate(kinds) if kind in equal],
        [(i, kind) for i, kind in enumerate(node_kinds) if kind in equal],
    )
    if ties is None:
        return None
    in_order, moved = ties
    paths = []
    following = iter(sorted(in_order.items()))
    event, node = next(following)
    for index in range(len(events)):
        if event < index:
            event, node = next(following, (len(events), node))
        paths.append(places[moved.get(index, node)].path)
    return paths


def _tie(
    events: Sequence[tuple[int, str]], nodes: Sequence[tuple[int, str]]
) -> tuple[dict[int, int], dict[int, int]] | None:
    """Map events' to nodes' indices, for events in the graph's order and for early ones; None if too many are early.

    An event of another kind than the next node is taken for an early one, until a node turns up that has no event
    because of it.
    """
    in_order: dict[int, int] = {}
    moved: dict[int, int] = {}
    early: dict[str, deque[int]] = {}
    waiting = deque(nodes)
    for event, kind in events:
        while waiting and waiting[0][1] != kind and early.get(waiting[0][1]):
            node, its_kind = waiting.popleft()
            moved[early[its_kind].popleft()] = node
        if waiting and waiting[0][1] == kind:
            in_order[event] = waiting.popleft()[0]
        else:
            early.setdefault(kind, deque()).append(event)
    for node, kind in waiting:  # as many of each kind as there are events left
        moved[early[kind].popleft()] = node
    if not in_order or len(moved) > MAX_MOVED * len(events):
        return None
    return in_order, moved


def by_block(events: Iterable[Event], paths: Iterable[str]) -> list[OperatorTime]:
    """Time per block of the UNet ("down_blocks.0", "mid_block", "conv_in"), the model's own operators under "the rest".

    Other programs (a decoder) are divided by blocks of the same names if they have them, else by the model's outermost
    parts.
    """

    def stage(path: str) -> str:
        outermost = re.match(r"\w+", in_unet(path))
        return stage_at(path) or (outermost[0] if outermost else REST)

    return by_operator(Event(stage(path), event.ms) for event, path in zip(events, paths, strict=True))


def by_part(events: Iterable[Event], paths: Iterable[str]) -> list[OperatorTime]:
    """Time per kind of block, over the whole UNet (`PARTS`)."""

    def part(path: str) -> str:
        block = block_at(path)
        if block is None:
            return REST
        return (ATTENTION_PARTS if is_attention(path) else PARTS).get(block.kind, REST)

    return by_operator(Event(part(path), event.ms) for event, path in zip(events, paths, strict=True))
