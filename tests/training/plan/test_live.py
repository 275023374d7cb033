"""Counting live bytes and operations among fake tensors: cases that a pencil can check."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from training.plan.fake import fake_tensors, make_fake
from training.plan.live import LiveBytes

N = 1024
SQUARE = 4 * N * N  # bytes of an N x N matrix in float32


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    with fake_tensors(gpu=False):
        yield


def test_a_freed_matrix_is_not_alive() -> None:
    with LiveBytes() as counted:
        a = torch.empty(N, N)
        b = a + 1
        del a
        c = b.exp()
        assert counted.live == 2 * SQUARE and counted.peak == 2 * SQUARE
        c.mul_(2)
        c.view(-1)[3:] += 1
        assert counted.live == 2 * SQUARE
        del b, c
    assert counted.live == 0


def layers(count: int) -> nn.Sequential:
    return make_fake(
        nn.Sequential(*(nn.Sequential(nn.Linear(N, N, bias=False), nn.Tanh()) for _ in range(count))), False
    )


@pytest.mark.parametrize("recompute", [False, True])
def test_what_the_backward_pass_needs_is_alive(recompute: bool) -> None:
    net = layers(4)
    with LiveBytes([net]) as counted:
        x = torch.empty(N, N)
        for layer in net:
            x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
        # the input, and each layer's output; tanh keeps its output alone, and so does a checkpoint its input
        assert counted.live == 5 * SQUARE
        forward = counted.flops
        torch.autograd.backward(x.sum())
    assert forward == 4 * 2 * N**3
    # the first layer's input needs no gradient; a checkpoint computes its layer once more
    assert counted.flops == forward + (4 + 3) * 2 * N**3 + (forward if recompute else 0)
    assert counted.gradients == 4 * SQUARE
    net.zero_grad(set_to_none=True)
    assert counted.gradients == 0


def test_gradients_are_counted_apart_and_accumulate_in_place() -> None:
    net = layers(2)
    with LiveBytes([net]) as counted:
        for _ in range(2):
            torch.autograd.backward(net(torch.empty(N, N)).sum())
        assert counted.gradients == 2 * SQUARE and counted.live == 0
        assert counted.peak_with_gradients > counted.peak


def test_shards_leave_no_gradients() -> None:
    net = layers(2)
    with LiveBytes([net], shards=True) as counted:
        torch.autograd.backward(net(torch.empty(N, N)).sum())
    assert counted.gradients == 0 and all(p.grad is None for p in net.parameters())


def test_casts_of_weights_are_alive_while_autocast_keeps_them() -> None:
    net = layers(2)
    with LiveBytes([net]) as counted:
        with torch.autocast("cpu", torch.bfloat16):
            y = net(torch.empty(N, N))
        # in half precision: the input, two outputs, and the second layer's weight for the gradient of its input
        assert counted.live == 4 * SQUARE // 2
        del y


def test_norms_keep_full_precision_on_a_gpu_also_when_computed_again() -> None:
    live = {}
    for gpu in (False, True):
        with fake_tensors(gpu):
            norm = make_fake(nn.LayerNorm(N), gpu)
            with LiveBytes([norm]) as counted:
                x = torch.empty(N, N, dtype=torch.bfloat16, requires_grad=True)
                with torch.autocast("cpu", torch.bfloat16):
                    y = checkpoint(norm, x, use_reentrant=False)
                torch.autograd.backward(y.float().sum())
            live[gpu] = counted.peak
    assert live[True] > live[False] + SQUARE // 2
