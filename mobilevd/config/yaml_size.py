"""The size of a configuration: one of a hundred bytes can stand for billions of values, by aliases of aliases."""

from __future__ import annotations

from pathlib import Path

import yaml

from mobilevd.errors import UserError

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 30


def check_size(path: Path, root: yaml.Node | None) -> None:
    """Raise UserError for a document with more values than a configuration has, counted as if aliases were written out."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise UserError(f"{path}:{node.start_mark.line + 1}: nested more than {MAX_DEPTH} deep, or in itself")
        if id(node) not in sizes:
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in node.value for part in pair]
            else:
                parts = node.value if isinstance(node, yaml.SequenceNode) else []
            sizes[id(node)] = min(1 + sum(size(part, depth + 1) for part in parts), MAX_NODES + 1)
        return sizes[id(node)]

    if root is not None and size(root, 0) > MAX_NODES:
        raise UserError(f"{path}: more than {MAX_NODES} values, aliases written out; no configuration has so many")
