"""A precision that a processor can only imitate."""

from __future__ import annotations

import torch


def slow_precision(mixed_precision: str, device: torch.device) -> str | None:
    """A remark if passes in `mixed_precision` would be slower here than in float32; None otherwise.

    oneDNN computes in bf16 from AVX-512 on. Other processors convert every operand to and fro: a training step of the tiny
    model takes ten times as long on one with AVX2.
    """
    if mixed_precision != "bf16" or device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    return "training.mixed_precision=bf16: this processor has no bf16 arithmetic, and float32 (no) is much faster here"
