"""The block of the UNet that every node of the one-step graph belongs to.

The cut is the same whether a temporal block is present or pruned: pruning takes away exactly the temporal block's
nodes, so a table of blocks holds for models with fewer of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from mobilevd.model.anatomy import TRANSFORMER_OUTPUT, WHOLES, Block, block_at, in_unet

REST = "rest"
"""The kind of nodes that are in no block of the UNet."""


def blocks_of_nodes(paths: Sequence[str]) -> list[Block]:
    """Return the block of every node, given the nodes' module paths in the order of execution.

    Nodes between blocks (reshapes, sums, a concatenation with a skip) belong to the block that follows. The exception
    are nodes that turn frames into clips and back, inside a residual block or transformer with a temporal part: they
    are temporal.
    """
    own = [block_at(path) for path in paths]
    inside = [None if block is None or block.kind in WHOLES else block for block in own]
    before: list[Block | None] = []
    last = None
    for block in inside:
        before.append(last)
        last = block or last
    after: list[Block | None] = []
    following = None
    for block in reversed(inside):
        after.append(following)
        following = block or following
    after.reverse()
    return [
        block or _between(path, whole, previous, next_)
        for block, path, whole, previous, next_ in zip(inside, paths, own, before, after, strict=True)
    ]


def _between(path: str, whole: Block | None, previous: Block | None, following: Block | None) -> Block:
    """The block of a node whose own path is in none; `whole` is the residual block or transformer around it."""
    if whole is not None:
        inside = [block if block is not None and block.name == whole.name else None for block in (previous, following)]
        for block in inside:
            if block is not None and block.temporal and not _is_output(inside[0]):
                return block
        previous, following = inside
        if _is_output(previous):
            following = None
    return following or previous or Block(in_unet(path), REST)


def _is_output(block: Block | None) -> bool:
    return block is not None and block.kind == TRANSFORMER_OUTPUT
