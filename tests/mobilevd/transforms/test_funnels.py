"""Channel funnels: the best product of the narrow width, nothing lost in merging, nothing exploding."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from mobilevd.errors import UserError
from mobilevd.model.layers.attention import Attention
from mobilevd.model.layers.resnet import ResidualPart
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.funnels import coupled_singular_init, merge_funnels
from tests.mobilevd.transforms.specs import transform_of
from tests.mobilevd.unets import inputs, relative_error, run, small_unet

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
RESIDUAL = "up_blocks.0.resnets.1.spatial_res_block"


def best_of_rank(product: Tensor, rank: int) -> Tensor:
    """Eckart-Young: the nearest matrix of that rank is the truncated singular value decomposition."""
    u, s, vh = torch.linalg.svd(product.double(), full_matrices=False)
    return (u[..., :rank] * s[..., None, :rank]) @ vh[..., :rank, :]


def begin(unet: SpatioTemporalUNet, **settings: object) -> SpatioTemporalUNet:
    return transform_of({"kind": "funnels", **settings}).begin(unet)


def attention(unet: SpatioTemporalUNet) -> Attention:
    return cast(Attention, unet.get_submodule(ATTENTION))


def residual(unet: SpatioTemporalUNet) -> ResidualPart:
    return cast(ResidualPart, unet.get_submodule(RESIDUAL))


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_product_is_the_best_of_its_rank(rank: int) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(5, 6, 20), torch.randn(5, 9, 6)
    narrow, widen = coupled_singular_init(first, second, rank)
    assert narrow.shape == (5, rank, 6) and widen.shape == (5, 6, rank)
    product = second.double() @ widen @ narrow @ first.double()
    torch.testing.assert_close(product, best_of_rank(second @ first, rank), rtol=1e-5, atol=1e-5)
    # the two halves are balanced: each carries the square root of the singular values
    left, right = second.double() @ widen, narrow @ first.double()
    torch.testing.assert_close(left.norm(dim=-2), right.norm(dim=-1))


@pytest.mark.parametrize("broken", ["zero", "rank-deficient", "float32 noise"])
def test_singular_weights_do_not_explode(broken: str) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(6, 20), torch.randn(9, 6)
    if broken == "zero":
        first.zero_()
    elif broken == "rank-deficient":
        first[3:] = first[:3]
    else:
        first[5] = first[4] * (1 + 1e-7) + 1e-9 * torch.randn(20)
    narrow, widen = coupled_singular_init(first, second, 6)
    assert narrow.isfinite().all() and widen.isfinite().all()
    assert narrow.abs().max() < 100 and widen.abs().max() < 100
    torch.testing.assert_close(
        second.double() @ widen @ narrow @ first.double(), (second @ first).double(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("settings", [{"attention": 1.0}, {"attention": None, "convolution": 1.0}])
def test_funnels_of_the_full_width_change_nothing(settings: dict[str, float]) -> None:
    unet = small_unet()
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if ".norm2." in name:
                parameter += 0.3 * torch.randn_like(parameter)
    live = begin(unet, **settings)
    assert relative_error(run(live), run(unet)) <= 1e-5
    assert relative_error(run(merge_funnels(live)), run(unet)) <= 1e-5


def test_attention_pairs_become_the_best_of_their_rank() -> None:
    unet = small_unet()
    before, after = attention(unet), attention(merge_funnels(begin(unet, attention=0.5)))
    heads, full = before.heads, before.head_dim
    narrow = full // 2
    assert after.to_q.weight.shape[0] == after.to_v.weight.shape[0] == heads * narrow
    assert after.attend.scale == before.attend.scale  # the softmax keeps the full width's scale

    def rows(weight: Tensor, head: int) -> Tensor:
        return weight.detach().double().unflatten(0, (heads, -1))[head]

    for head in range(heads):
        logits = rows(before.to_q.weight, head).T @ rows(before.to_k.weight, head)
        got = rows(after.to_q.weight, head).T @ rows(after.to_k.weight, head)
        torch.testing.assert_close(got, best_of_rank(logits, narrow), rtol=1e-5, atol=1e-6)
        output = rows(cast(torch.nn.Linear, before.to_out[0]).weight.T, head).T
        narrow_output = rows(cast(torch.nn.Linear, after.to_out[0]).weight.T, head).T
        product = output @ rows(before.to_v.weight, head)
        got = narrow_output @ rows(after.to_v.weight, head)
        torch.testing.assert_close(got, best_of_rank(product, narrow), rtol=1e-5, atol=1e-6)


def flat_product(part: ResidualPart, between: Tensor | None = None) -> Tensor:
    """conv2 after conv1 on the inner channels, (C_out * taps, C_in * taps), with `between` in the middle."""
    first = part.conv1.weight.detach().double().flatten(1)
    second = part.conv2.weight.detach().double().movedim(1, -1).flatten(0, 2)
    return second @ first if between is None else second @ between @ first


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_convolutions_product_becomes_the_best_of_its_rank(factor: float) -> None:
    unet = small_unet()
    live = residual(begin(unet, attention=None, convolution=factor))
    assert live.funnel_in is not None and live.funnel_out is not None
    width = round(64 * factor)
    assert live.funnel_in.weight.shape == (width, 64, 1, 1)
    between = live.funnel_out.weight.detach().double().flatten(1) @ live.funnel_in.weight.detach().double().flatten(1)
    expected = best_of_rank(flat_product(residual(unet)), width)
    torch.testing.assert_close(flat_product(live, between), expected, rtol=1e-4, atol=1e-5)


def test_inner_channels_stay_original_channels_where_they_can() -> None:
    """The norm and SiLU between two convolutions act per channel: r of the inner channels are still original ones."""
    live = residual(begin(small_unet(), attention=None, convolution=0.5))
    assert live.funnel_in is not None
    narrow = live.funnel_in.weight.detach().flatten(1)
    unmixed = (narrow.abs() < 1e-6).sum(0) == 31
    assert int(unmixed.sum()) == 32
    torch.testing.assert_close(narrow[:, unmixed], torch.eye(32), atol=1e-6, rtol=0)


def test_singular_convolutions_get_funnels_too() -> None:
    unet = small_unet()
    with torch.no_grad():
        part = residual(unet)
        part.conv1.weight[5:] = part.conv1.weight[:1]
    live = begin(unet, attention=None, convolution=0.5)
    assert run(live).isfinite().all()
    made = residual(live)
    assert made.funnel_in is not None and made.funnel_out is not None
    between = made.funnel_out.weight.detach().double().flatten(1) @ made.funnel_in.weight.detach().double().flatten(1)
    torch.testing.assert_close(flat_product(made, between), flat_product(part), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", ["csi", "he"])
@pytest.mark.parametrize(
    "settings", [{"attention": 0.5}, {"attention": None, "convolution": 0.3}, {"attention": 0.3, "convolution": 0.6}]
)
def test_merging_loses_nothing(init: str, settings: dict[str, float]) -> None:
    live = begin(small_unet(), init=init, **settings)
    with torch.no_grad():  # as after training: everything has moved
        for parameter in live.parameters():
            parameter += 0.05 * torch.randn_like(parameter) * parameter.std(correction=0)
    merged = transform_of({"kind": "funnels", **settings}).finish(live)
    arguments = inputs(live)
    assert relative_error(run(merged, arguments), run(live, arguments)) <= 2e-6
    assert merged.num_parameters() < small_unet().num_parameters() < live.num_parameters()
    assert not any("funnel" in name for name, _ in merged.named_modules())


def test_csi_starts_closer_than_he() -> None:
    unet = small_unet()
    errors = {init: relative_error(run(begin(unet, attention=0.5, init=init)), run(unet)) for init in ("csi", "he")}
    assert errors["csi"] < 0.5 * errors["he"]


def test_widths_are_rounded_and_at_least_one() -> None:
    widths = begin(small_unet(), attention=0.01, convolution=0.4).config["inner_widths"]
    assert widths[f"{ATTENTION}.qk"] == widths[f"{ATTENTION}.vo"] == 1
    assert widths[f"{RESIDUAL}.conv"] == 26  # 25.6
    assert not any(".attn2." in name for name in widths)  # cross-attention is not narrowed
    assert any(".temporal_transformer_blocks." in name for name in widths)
    assert any(".temporal_res_block." in name for name in widths)


def test_a_narrowed_model_is_refused() -> None:
    live = begin(small_unet(), attention=0.5)
    for unet in (live, merge_funnels(live)):
        with pytest.raises(UserError, match="narrowed layers already"):
            begin(unet, attention=None, convolution=0.5)


def test_only_what_was_asked_for_is_narrowed() -> None:
    assert all(name.endswith((".qk", ".vo")) for name in begin(small_unet(), attention=0.5).config["inner_widths"])
    widths = begin(small_unet(), attention=None, convolution=0.5).config["inner_widths"]
    assert all(name.endswith(".conv") for name in widths) and widths
