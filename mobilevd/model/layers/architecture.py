"""The architecture as layers read it: a typed view of the config, with the choices that differ between layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Architecture:
    """Compression choices that reach down to single layers, looked up by the layer's name (its path in the UNet).

    Attributes:
        temporal_blocks: names of the blocks (residual blocks and transformers) that keep their temporal part;
            None keeps all.
        cross_attention: "full" (queries and keys, as in SVD) or "projection" (one linear layer, the same output).
        inner_widths: "NAME.qk", "NAME.vo" (per head, NAME an attention) or "NAME.conv" (NAME a residual part) to the
            width between its two layers, where a funnel narrowed it.
        live_funnels: the funnels are still layers of their own (during finetuning), not yet merged.
    """

    temporal_blocks: frozenset[str] | None = None
    cross_attention: str = "full"
    inner_widths: Mapping[str, int] = field(default_factory=dict)
    live_funnels: bool = False

    def has_temporal(self, name: str) -> bool:
        """True if the block `name` keeps its temporal part."""
        return self.temporal_blocks is None or name in self.temporal_blocks

    def width(self, name: str, pair: str) -> int | None:
        """Inner width of the pair ("qk", "vo", "conv") in layer `name`; None without a funnel."""
        return self.inner_widths.get(f"{name}.{pair}")
