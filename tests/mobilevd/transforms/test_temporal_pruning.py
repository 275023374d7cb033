"""Temporal block pruning: exact deletion, the gates' gradient, and that it finds the blocks that matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mobilevd.config.transforms import TemporalPruningSettings
from mobilevd.errors import UserError
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet
from mobilevd.transforms.brewer import inclusion_probabilities
from mobilevd.transforms.temporal_pruning import (
    TemporalPruning,
    gate_probabilities,
    keep_temporal_blocks,
    probability_jacobian,
)
from tests.mobilevd.transforms.specs import transform_of
from tests.mobilevd.unets import Inputs, inputs, relative_error, run, small_unet


def pruning_of(**settings: Any) -> TemporalPruning:
    return TemporalPruning(TemporalPruningSettings(**settings))


def set_gates(unet: SpatioTemporalUNet, names: list[str]) -> None:
    for name, mixer in unet.time_mixers().items():
        mixer.gate = torch.tensor(1.0 if name in names else 0.0)


def test_deleting_gated_off_blocks_changes_nothing() -> None:
    unet = pruning_of().begin(small_unet())
    names = unet.temporal_block_names()
    kept = [names[1], names[4]]
    set_gates(unet, kept)
    expected = run(unet)
    pruned = keep_temporal_blocks(unet, kept)
    assert relative_error(run(pruned), expected) <= 1e-6
    assert pruned.temporal_block_names() == kept == pruned.config["temporal_blocks"]
    parameters = {name for name, _ in pruned.named_parameters()}
    assert sum(name.endswith("mix_factor") for name in parameters) == 2
    assert "temporal_importance" not in parameters


def test_finish_keeps_the_most_important_in_their_order() -> None:
    transform = transform_of({"kind": "temporal_pruning", "keep": 3})
    unet = transform.begin(small_unet())
    assert unet.temporal_importance is not None
    names = unet.temporal_block_names()
    with torch.no_grad():
        unet.temporal_importance.zero_()
        unet.temporal_importance[[5, 0, 3]] = torch.tensor([3.0, 2.0, 1.0])
    assert transform.finish(unet).config["temporal_blocks"] == [names[0], names[3], names[5]]


@pytest.mark.parametrize(("keep", "blocks"), [(1, 1), (3, 3), (0.3, 4), (0.01, 1), (0.99, 12), (12, 12), (50, 12)])
def test_how_many_are_kept(keep: float, blocks: int) -> None:
    transform = pruning_of(keep=keep)
    unet = transform.begin(small_unet())
    assert len(unet.temporal_block_names()) == 12
    transform.before_step(unet, torch.Generator().manual_seed(0))
    gates = [mixer.gate for mixer in unet.time_mixers().values()]
    assert sum(float(gate.detach()) for gate in gates if gate is not None) == blocks
    transform.after_step(unet)
    assert all(mixer.gate is None for mixer in unet.time_mixers().values())
    assert len(transform.finish(unet).temporal_block_names()) == blocks


def test_the_published_fraction_keeps_11_of_svds_38() -> None:
    assert pruning_of(keep=0.3).blocks_to_keep(38) == pruning_of(keep=11).blocks_to_keep(38) == 11


def test_pruning_again_and_after_funnels() -> None:
    funnels, pruning = transform_of({"kind": "funnels"}), pruning_of(keep=4)
    unet = funnels.finish(funnels.begin(small_unet()))
    once = pruning.finish(pruning.begin(unet))
    twice = pruning_of(keep=2).finish(pruning_of(keep=2).begin(once))
    assert len(twice.temporal_block_names()) == 2
    layers = {name for name, _ in twice.named_modules()}
    assert all(name.rsplit(".", 1)[0] in layers for name in twice.config["inner_widths"])
    nothing = twice.derive(temporal_blocks=[])
    with pytest.raises(UserError, match="no temporal blocks left"):
        pruning_of().begin(nothing)


@pytest.mark.parametrize("importance", [[0.0] * 5, [1.0, 0.5, 0.0, -0.5, 2.0], [9.0, 0.0, 0.1, 0.2, 0.3]])
def test_the_gates_gradient_is_that_of_the_inclusion_probabilities(importance: list[float]) -> None:
    value = torch.tensor(importance, dtype=torch.float64)
    numeric = torch.zeros(5, 5, dtype=torch.float64)
    for j in range(5):
        step = torch.zeros(5, dtype=torch.float64)
        step[j] = 1e-6
        above = inclusion_probabilities(torch.exp(value + step), 2)
        below = inclusion_probabilities(torch.exp(value - step), 2)
        numeric[:, j] = (above - below) / 2e-6
    torch.testing.assert_close(probability_jacobian(gate_probabilities(value, 2)), numeric, atol=1e-7, rtol=1e-5)


def test_gates_are_the_draw_forwards_and_its_probabilities_backwards() -> None:
    transform = pruning_of(keep=4)
    unet = transform.begin(small_unet())
    importance = unet.temporal_importance
    assert importance is not None
    with torch.no_grad():
        importance.copy_(torch.linspace(-1, 1, len(importance)))
    transform.before_step(unet, torch.Generator().manual_seed(3))
    gates = torch.stack([mixer.gate for mixer in unet.time_mixers().values() if mixer.gate is not None])
    assert sorted(gates.tolist()) == [0.0] * 8 + [1.0] * 4
    direction = torch.randn(len(gates))
    jacobian = probability_jacobian(gate_probabilities(importance, 4)).float()
    for _ in range(2):  # accumulated gradients: one draw, several backward passes
        (gates * direction).sum().backward()
    torch.testing.assert_close(importance.grad, 2 * direction @ jacobian)


def test_extreme_importances_still_draw() -> None:
    transform = pruning_of(keep=2)
    unet = transform.begin(small_unet())
    assert unet.temporal_importance is not None
    with torch.no_grad():
        unet.temporal_importance.fill_(-1000.0)[4] = 1000.0
    transform.before_step(unet, torch.Generator().manual_seed(0))
    gates = [float(mixer.gate.detach()) for mixer in unet.time_mixers().values() if mixer.gate is not None]
    assert sum(gates) == 2 and gates[4] == 1


def constructed_case() -> tuple[SpatioTemporalUNet, list[str], list[tuple[Inputs, torch.Tensor]]]:
    """A UNet, some of its temporal blocks, and outputs that it gives with those alone."""
    unet = small_unet(
        block_out_channels=(32, 32),
        down_block_types=(CROSS_DOWN, PLAIN_DOWN),
        up_block_types=(PLAIN_UP, CROSS_UP),
        num_attention_heads=2,
        cross_attention="projection",
    )
    with torch.no_grad():  # temporal parts that can be told from nothing
        for mixer in unet.time_mixers().values():
            mixer.mix_factor.fill_(-2.0)
    names = unet.temporal_block_names()
    wanted = [names[1], names[6], names[8]]
    set_gates(unet, wanted)
    data = []
    for seed in range(8):
        arguments = inputs(unet, batch=2, size=(4, 4), seed=seed)
        data.append((arguments, run(unet, arguments)))
    for mixer in unet.time_mixers().values():
        mixer.gate = None
    return unet, wanted, data


def test_training_finds_the_blocks_that_matter() -> None:
    """The target is made by three of twelve blocks; only importances are trained, and the three come out on top."""
    torch.set_num_threads(1)
    unet, wanted, data = constructed_case()
    transform = pruning_of(keep=3, learning_rate=0.05)
    live = transform.begin(unet)
    live.requires_grad_(False)
    assert live.temporal_importance is not None
    live.temporal_importance.requires_grad_(True)
    optimizer = torch.optim.Adam([live.temporal_importance], lr=transform.learning_rates()["temporal_importance"])
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        arguments, target = data[step % len(data)]
        transform.before_step(live, generator)
        optimizer.zero_grad()
        (live(*arguments) - target).square().mean().backward()
        optimizer.step()
        transform.after_step(live)
    pruned = transform.finish(live)
    assert pruned.temporal_block_names() == wanted
    assert relative_error(run(pruned, data[0][0]), data[0][1]) <= 1e-5
