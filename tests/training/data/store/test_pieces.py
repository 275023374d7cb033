"""Pieces of clips through a codec: as many frames as fit, counted without encoding any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mobilevd.codecs import TinyCodec
from tests.training.data.clip_sets import tiny_codec
from training.data.store import pieces
from training.data.store.pieces import Encoder, LivingBytes, frame_bytes


def test_living_tensors_are_counted_once_and_until_they_end():
    with LivingBytes() as living:
        a = torch.zeros(1000)
        b = a.view(10, 100)  # the same memory
        assert living.now == 4000
        c = b + 1
        del a
        assert living.now == 8000
        del b, c
        assert living.now == 0 and living.peak == 8000


def test_a_chain_of_layers_takes_its_two_largest_neighbours():
    class Layers(TinyCodec):
        def __init__(self) -> None:
            super().__init__(width=8)
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 4, 1))

        def encode(self, frames: torch.Tensor) -> torch.Tensor:
            return self.layers(frames)

    pixels = 32 * 64
    assert frame_bytes(Layers().requires_grad_(False), 32, 64, "fp32") == (8 + 16) * 4 * pixels + 3 * 4 * pixels


@pytest.mark.parametrize(("budget", "frames", "clips"), [(1, 1, 1), (7, 7, 1), (9, 9, 2)])
def test_pieces_follow_the_budget_and_give_the_same_latents(monkeypatch, budget, frames, clips):
    codec, seen = tiny_codec(), []
    monkeypatch.setattr(pieces, "ACTIVATIONS_BYTES", budget * frame_bytes(codec, 32, 64, "fp32"))
    encoder = Encoder(codec, 32, 64, 4, "fp32")
    assert (encoder.frames, encoder.clips) == (frames, clips)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 64, 3), dtype=np.uint8)
    codec.vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    latents, embeddings = encoder.encode(list(pixels))
    assert max(seen) == min(frames, 8) and latents.shape == (2, 4, 4, 8, 16) and embeddings.shape == (2, 96)
    whole = codec.encode(torch.from_numpy(pixels).flatten(0, 1).permute(0, 3, 1, 2) / 127.5 - 1)
    torch.testing.assert_close(latents.flatten(0, 1).float(), whole, rtol=2e-3, atol=2e-3)


def test_bf16_computes_in_bf16_and_fp32_does_not_whatever_is_around_it():
    codec, kinds = tiny_codec(), []
    layer = next(module for module in codec.vae.encoder.modules() if isinstance(module, nn.Conv2d))
    pixels = [np.zeros((4, 32, 64, 3), dtype=np.uint8)]
    layer.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    low, high = Encoder(codec, 32, 64, 4, "bf16"), Encoder(codec, 32, 64, 4, "fp32")
    kinds.clear()
    low.encode(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        high.encode(pixels)
    assert kinds == [torch.bfloat16, torch.float32]
