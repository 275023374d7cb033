"""The adversarial objective's parts, against formulas and finite differences."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mobilevd.diffusion.preconditioning import denoise
from mobilevd.diffusion.sigmas import karras_sigmas
from mobilevd.model.unet import SpatioTemporalUNet
from tests.training.helpers import adversarial, draw, small_unet, trainer
from training.data.draws import Draws
from training.discriminator import TEMPORAL, DiscriminatorHeads, FrozenEncoder, Head, HeadBlock
from training.objectives.adversarial import pseudo_huber
from training.objectives.gradient_penalty import finite_difference_penalty, gradient_penalty


def test_pseudo_huber_is_quadratic_near_zero_and_linear_far_away() -> None:
    d = torch.full((1, 4), 1e-4)
    assert float(pseudo_huber(d, 0.03)) == pytest.approx(float(d.pow(2).sum()) / (2 * 0.03), rel=1e-2)
    d = torch.full((2, 4), 100.0)
    assert pseudo_huber(d, 0.03).tolist() == pytest.approx([math.sqrt(4) * 100 - 0.03] * 2)


def test_generator_trains_on_the_first_points_of_the_coarse_grid() -> None:
    objective = adversarial(small_unet())
    torch.testing.assert_close(objective.levels, karras_sigmas(4)[:3].float())


def test_discriminator_first_then_both() -> None:
    objective = adversarial(small_unet(), discriminator_steps_first=2)
    names = [objective.phases(step) for step in range(3)]
    assert names == [["discriminator"], ["discriminator"], ["discriminator", "generator"]]


def test_only_the_heads_learn_from_the_discriminators_turn_and_only_the_unet_from_the_generators() -> None:
    unet = small_unet().train()
    objective = adversarial(unet)
    batch, draws = draw()
    loss, figures = objective.loss("discriminator", unet, batch, draws)
    loss.backward()
    assert all(p.grad is None for p in unet.parameters())
    assert all(p.grad is None for p in objective.encoder.parameters())
    assert any(float(p.grad.abs().sum()) > 0 for p in objective.heads.parameters() if p.grad is not None)
    assert {"loss_d", "r1", "real", "fake"} <= figures.keys()
    loss, _ = objective.loss("generator", unet, batch, draws)
    loss.backward()
    assert float(unet.conv_in.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert all(p.grad is None for p in objective.encoder.parameters())


def test_hinge_losses_of_known_logits() -> None:
    """With heads that answer 0 everywhere: D's hinge loss is 1 + 1, G's adversarial part 0, R1 0."""
    unet = small_unet()
    objective = adversarial(unet, huber_weight=0.0)
    heads: list[Any] = [*objective.heads.spatial, *objective.heads.temporal]
    for head in heads:
        for layer in (head.logit, head.compare):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    batch, draws = draw()
    loss, figures = objective.loss("discriminator", unet, batch, draws)
    assert float(loss.detach()) == pytest.approx(2.0) and figures["r1"] == 0.0
    assert float(objective.loss("generator", unet, batch, draws)[0]) == pytest.approx(0.0)


def test_a_teacher_adds_the_squared_distance_to_its_output_on_the_same_noise() -> None:
    unet, other = small_unet(), small_unet()
    with torch.no_grad():
        other.conv_out.bias.add_(1.0)  # type: ignore[union-attr]
    batch, _ = draw()

    def loss_of(teacher: SpatioTemporalUNet | None, weight: float) -> tuple[float, dict[str, torch.Tensor]]:
        torch.manual_seed(0)  # of the heads
        objective = adversarial(unet, sigma_points=1, teacher=teacher, distillation_weight=weight)
        loss, figures = objective.loss("generator", unet, batch, Draws(1, 0, 0, range(2)))
        return float(loss.detach()), figures

    alone, _ = loss_of(None, 0.0)
    same, figures = loss_of(copy.deepcopy(unet), 5.0)
    assert same == pytest.approx(alone) and figures["teacher"] < 1e-10  # plain against fused attention
    # c_out(700) = -700 / sqrt(700^2 + 1): a bias of 1 in the network is a distance of 1 in the output
    apart, figures = loss_of(other, 5.0)
    assert figures["teacher"] == pytest.approx(1.0, rel=1e-3)
    assert apart - alone == pytest.approx(5.0, rel=1e-3)


def test_r1_is_the_squared_gradient_at_real_samples() -> None:
    """Against finite differences of the logits along a random direction of the heads' inputs."""
    torch.manual_seed(0)
    heads = DiscriminatorHeads([32], 8).double()
    features = torch.randn(4, 32, 3, 3, dtype=torch.float64, requires_grad=True)  # one clip of 4 frames
    batch, _ = draw(1)
    batch.conditions.image_embedding = batch.conditions.image_embedding.double()

    def total(f: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean(1).sum() for x in heads([f], batch.conditions, torch.ones(1))]).sum()

    gradient = torch.autograd.grad(total(features), features)[0]
    direction = torch.randn_like(features)
    step = 1e-6
    change = (total(features + step * direction) - total(features - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(change), rel=1e-6)


def test_the_temporal_head_sees_the_order_of_frames_and_the_spatial_head_does_not() -> None:
    torch.manual_seed(0)
    heads = DiscriminatorHeads([32], 8)
    conditions = draw(1)[0].conditions
    features = torch.randn(4, 32, 3, 3)
    shuffled = features[[2, 0, 3, 1]]
    spatial, temporal = heads([features], conditions, torch.ones(1))
    spatial2, temporal2 = heads([shuffled], conditions, torch.ones(1))
    assert float(spatial.sum()) == pytest.approx(float(spatial2.sum()), rel=1e-4)
    assert float((temporal.sum() - temporal2.sum()).abs()) > 1e-3


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_temporal_head_of_depth_n_sees_n_frames_to_each_side(depth: int) -> None:
    """By the gradient of one frame's logits; without the normalization, which looks at all frames."""
    torch.manual_seed(0)
    head = Head(32, 8, TEMPORAL, depth)
    for module in head.modules():
        if isinstance(module, HeadBlock):
            module.norm = torch.nn.Identity()  # type: ignore[assignment]
    head.norm_in = torch.nn.Identity()  # type: ignore[assignment]
    clip = torch.randn(1, 32, 9, 2, requires_grad=True)  # 9 frames at 2 positions
    logits = head(clip, torch.randn(1, 8)).unflatten(1, (9, 2))
    gradient = torch.autograd.grad(logits[0, 4, 0], clip)[0]
    seen = [frame for frame in range(9) if float(gradient[0, :, frame, 0].abs().sum()) > 0]
    assert seen == list(range(4 - depth, 5 + depth))
    assert float(gradient[..., 1].abs().sum()) == 0  # other positions are the spatial head's affair


def test_the_encoder_is_frozen_but_passes_gradients() -> None:
    encoder = FrozenEncoder(small_unet())
    batch, _ = draw()
    x = batch.latents.clone().requires_grad_()
    features = encoder(x, torch.tensor([0.5, 2.0]), batch.conditions)
    assert [tuple(f.shape) for f in features] == [(8, 32, 4, 4)]
    sum(f.sum() for f in features).backward()  # type: ignore[union-attr]
    assert x.grad is not None and float(x.grad.abs().sum()) > 0
    assert not any(p.requires_grad for p in encoder.parameters())


def test_adversarial_training_moves_a_blurred_answer_towards_the_data(tmp_path: Path) -> None:
    """Data of two modes, +1 and -1: the mean, 0, is the best plain denoiser at sigma 700; training leaves it."""
    from tests.training.helpers import source as source_of
    from tests.training.helpers import train_settings
    from training.data.memory_store import MemoryStore
    from training.loop import Trainer

    signs = torch.tensor([1.0, -1.0]).repeat(8)[:, None, None, None, None]
    data = MemoryStore(signs.expand(16, 4, 4, 4, 4), torch.full((16, 3, 16, 16), 127).byte(), torch.zeros(16, 1, 8))
    unet = small_unet()
    torch.nn.init.zeros_(unet.conv_out.weight)
    unet.conv_out.bias.data.zero_()  # type: ignore[union-attr]
    objective = adversarial(
        unet, sigma_points=1, huber_weight=0.0, discriminator_steps_first=10, heads_learning_rate=6e-3
    )
    batches = source_of(data, 4)
    settings = train_settings(steps=40, batch_size=4, learning_rate=4e-3, ema_decay=0.0, checkpoint_every=1000)
    trained = Trainer(unet, objective, (), batches, settings, tmp_path, 0).run()  # type: ignore[arg-type]
    draws = Draws(5, 0, 0, range(16))
    batch = batches.draw(0, 0, [i % 4 for i in range(16)], draws)
    with torch.no_grad():
        noised, sigma = objective._noised(batch, draws)
        out = denoise(trained, noised, sigma, batch.conditions)
    assert float(out.abs().mean()) > 0.5


def test_objective_runs_through_the_loop(tmp_path: Path) -> None:
    figures: list[dict[str, float]] = []
    trainer(tmp_path, "adversarial", steps=3).run(lambda r: figures.append(r.figures))
    assert "loss_g" not in figures[0] and {"loss_g", "huber", "loss_d"} <= figures[-1].keys()


def test_shared_updates_give_both_turns_gradients_from_one_pass() -> None:
    """On the same clips and draws, the generator's gradient is that of its own turn."""
    unet = small_unet().train()
    torch.manual_seed(0)
    shared = adversarial(unet, updates="shared", discriminator_steps_first=0)
    assert shared.phases(0) == ["shared"] and shared.trained_in("shared") == ["discriminator", "generator"]
    batch, draws = draw()
    loss, figures = shared.loss("shared", unet, batch, draws)
    loss.backward()
    assert {"loss_d", "loss_g", "r1", "huber"} <= figures.keys()
    together = unet.conv_in.weight.grad.clone()  # type: ignore[union-attr]
    heads = [p.grad.clone() for p in shared.heads.parameters() if p.grad is not None]
    assert any(float(g.abs().sum()) > 0 for g in heads)
    unet.zero_grad()
    shared.heads.zero_grad()
    batch, draws = draw()
    shared.loss("generator", unet, batch, draws)[0].backward()
    torch.testing.assert_close(unet.conv_in.weight.grad, together)  # type: ignore[union-attr]
    assert all(p.grad is None for p in shared.heads.parameters()), "the generator's loss does not teach the heads"


def test_finite_differences_estimate_the_gradient_penalty() -> None:
    """Mean over many draws of the noise, on heads made linear, against the exact penalty."""
    torch.manual_seed(0)
    weights = [torch.randn(6, 2, 2) / 5, torch.randn(4, 1, 1) / 5]
    maps = [torch.randn(8, 6, 2, 2), torch.randn(8, 4, 1, 1)]  # two clips of four frames

    def judge(features: list[torch.Tensor]) -> list[torch.Tensor]:
        each = [(f * w).sum((1, 2, 3)).reshape(2, 4) for f, w in zip(features, weights, strict=True)]
        return [each[0], 2 * each[0], each[1], -0.5 * each[1]]  # a spatial and a temporal head for each map

    logits, exact = gradient_penalty(judge, [m.clone() for m in maps])
    estimates = [
        float(finite_difference_penalty(judge, maps, logits, [torch.randn_like(m) for m in maps], 0.01).detach())
        for _ in range(4000)
    ]
    assert sum(estimates) / len(estimates) == pytest.approx(float(exact.detach()), rel=0.08)


@pytest.mark.parametrize("conditions", [["image"], ["noise"], ["frame"], ["image", "noise", "frame"]])
def test_heads_depend_on_what_they_are_conditioned_on_and_on_nothing_else(conditions: list[str]) -> None:
    torch.manual_seed(0)
    heads = DiscriminatorHeads([32], 8, conditions=conditions)
    batch, _ = draw(1)
    features, sigma = torch.randn(4, 32, 3, 3), torch.tensor([1.0])
    logits = heads([features], batch.conditions, sigma)
    for what, sigma2, embedding in (("noise", sigma * 3, 1.0), ("image", sigma, 2.0)):
        other = draw(1)[0].conditions
        other.image_embedding = other.image_embedding * embedding
        changed = any(not torch.equal(a, b) for a, b in zip(logits, heads([features], other, sigma2), strict=True))
        assert changed == (what in conditions)
    order = [2, 0, 3, 1]
    moved = heads([features[order]], batch.conditions, sigma)[0].unflatten(1, (4, 9))
    same = torch.allclose(moved, logits[0].unflatten(1, (4, 9))[:, order], atol=1e-6)
    assert same == ("frame" not in conditions), "a spatial head knows the frame by its number alone"


def test_accuracies_of_every_head_are_told() -> None:
    unet = small_unet()
    objective = adversarial(unet)
    batch, draws = draw()
    _, figures = objective.loss("discriminator", unet, batch, draws)
    accuracies = {key: float(value) for key, value in figures.items() if key.startswith("accuracy/")}
    assert set(accuracies) == {"accuracy/spatial.0", "accuracy/temporal.0"}
    assert all(0 <= value <= 1 for value in accuracies.values())
