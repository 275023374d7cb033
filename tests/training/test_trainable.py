"""Training of some weights alone: which they are, and that a model with low-rank additions becomes a plain one again."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import nn

from mobilevd.config.transforms import FunnelsSettings, TemporalPruningSettings
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms import make_transform
from mobilevd.transforms.temporal_pruning import keep_temporal_blocks
from tests.mobilevd.unets import inputs, relative_error, run, small_unet
from training.trainable import merge, select, trained_names


def one_step(unet: SpatioTemporalUNet, rate: float = 0.05) -> set[str]:
    """Take a plain gradient step; return the names of the parameters that it changed."""
    before = {name: p.detach().clone() for name, p in cast(nn.Module, unet).named_parameters()}
    for _ in range(2):  # LoRA's first factor has no gradient while the second is zero
        unet(*inputs(unet)).square().mean().backward()
        with torch.no_grad():
            for parameter in cast(nn.Module, unet).parameters():
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad.sign()
                    parameter.grad = None
    return {name for name, p in cast(nn.Module, unet).named_parameters() if not torch.equal(p, before[name])}


def test_all_is_everything() -> None:
    unet = small_unet()
    assert trained_names(select(unet, "all")) == [name for name, _ in unet.named_parameters()]


def test_temporal_layers_are_those_that_pruning_deletes() -> None:
    """Another definition of the same set: what is left when all temporal blocks are deleted is what is not trained."""
    unet = small_unet()
    bare = {name for name, _ in keep_temporal_blocks(unet, []).named_parameters()}
    expected = [name for name, _ in unet.named_parameters() if name not in bare]
    assert trained_names(select(unet, "temporal")) == expected and expected
    assert one_step(unet) <= set(expected)


def test_low_rank_additions_begin_with_the_same_outputs() -> None:
    unet = small_unet()
    before = run(unet)
    select(unet, "lora", rank=2)
    assert torch.equal(run(unet), before)
    assert trained_names(unet) and all("lora_" in name for name in trained_names(unet))


@pytest.mark.parametrize("cross_attention", ["full", "projection"])
def test_merged_they_are_a_plain_model_of_the_same_outputs(cross_attention: str) -> None:
    unet = small_unet(cross_attention=cross_attention)
    plain, config = copy.deepcopy(unet), dict(unet.config)
    select(unet, "lora", rank=2)
    changed = one_step(unet)
    assert changed and changed <= set(trained_names(unet))
    adapted = run(unet)
    assert relative_error(adapted, run(plain)) > 1e-3
    merged = merge(unet)
    assert relative_error(run(merged), adapted) < 1e-5
    assert list(merged.state_dict()) == list(plain.state_dict()) and dict(merged.config) == config
    assert {type(module) for module in merged.modules()} == {type(module) for module in plain.modules()}
    assert trained_names(merged) == [name for name, _ in plain.named_parameters()]
    rebuilt = SpatioTemporalUNet(**{key: value for key, value in config.items() if not key.startswith("_")})
    rebuilt.load_state_dict(merged.state_dict())
    assert relative_error(run(rebuilt.eval()), adapted) < 1e-5


def test_additions_take_in_residual_blocks_and_transformers_and_nothing_else() -> None:
    unet = select(small_unet(), "lora", rank=2)
    beside = {name.partition(".lora_")[0] for name in trained_names(unet)}
    assert "mid_block.resnets.0.temporal_res_block.conv1" in beside
    assert "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0" in beside
    assert "down_blocks.0.attentions.0.proj_in" in beside
    assert not any(name.startswith(("conv_", "time_", "add_")) or "sampler" in name for name in beside)


@pytest.mark.parametrize("train", ["temporal", "lora"])
@pytest.mark.parametrize("settings", [TemporalPruningSettings(keep=2), FunnelsSettings(attention=0.5, convolution=0.5)])
def test_gates_and_funnels_are_trained_with_them(train: Any, settings: Any) -> None:
    transform = make_transform(settings)
    unet = select(transform.begin(small_unet()), train, rank=2)
    own = "temporal_importance" if isinstance(settings, TemporalPruningSettings) else ".funnel_"
    names = [name for name, _ in unet.named_parameters() if own in name]
    assert names and set(names) <= set(trained_names(unet))
    transform.before_step(unet, torch.Generator().manual_seed(0))
    unet(*inputs(unet)).square().mean().backward()
    assert all(unet.get_parameter(name).grad is not None for name in names)
    transform.after_step(unet)
    one_step(unet)
    adapted = run(unet)
    merged = merge(unet)
    assert relative_error(run(merged), adapted) < 1e-5
    finished = transform.finish(merged)
    if isinstance(settings, FunnelsSettings):
        assert relative_error(run(finished), adapted) < 1e-4
    else:
        assert len(finished.temporal_block_names()) == 2


def test_a_model_without_temporal_blocks_has_none_to_train() -> None:
    unet = keep_temporal_blocks(small_unet(), [])
    with pytest.raises(UserError, match="training.train=temporal: .* no temporal blocks left"):
        select(unet, "temporal")
