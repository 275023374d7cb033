"""A user who asks a processor for arithmetic that it does not have is told what is faster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from training.engine.slow_precision import slow_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("has_bf16", "precision", "device", "told"),
    [(False, "bf16", CPU, True), (True, "bf16", CPU, False), (False, "no", CPU, False), (False, "bf16", GPU, False)],
)
def test_bf16_without_its_arithmetic(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str, device: torch.device, told: bool
) -> None:
    mkldnn = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: has_bf16)
    monkeypatch.setattr(torch.ops, "mkldnn", mkldnn)
    assert (slow_precision(precision, device) is not None) == told


def test_torch_still_tells() -> None:
    assert torch.ops.mkldnn._is_mkldnn_bf16_supported() in (True, False)
