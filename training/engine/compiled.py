"""torch.compile of the blocks of models: a block's program is made once and serves all blocks of its shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch._dynamo
from torch import nn

from mobilevd.model.anatomy import block_modules

SHAPES = 256  # of blocks: levels, ways, with gradients or without, in training and in validation


def compile_blocks(modules: Sequence[nn.Module], backend: str = "inductor") -> None:
    """Compile all residual blocks and transformers of modules, in place; their parameters keep their names."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    torch._dynamo.config.accumulated_recompile_limit = max(torch._dynamo.config.accumulated_recompile_limit, 4 * SHAPES)
    for module in modules:
        for block in block_modules(module).values():
            block.compile(dynamic=False, backend=backend)  # sizes stay the same in a stage
