"""What the loop does with gradients, averages, precision and losses that are not finite."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mobilevd.errors import UserError
from tests.training.helpers import clips, denoise, small_unet, source, train_settings, trainer
from training.data.batch import step_generator
from training.loop import Report, Trainer


def test_denoising_loss_falls(tmp_path: Path) -> None:
    """Every clip is the same: the network can learn it by heart."""
    data = clips()
    data.latents = data.latents[:1].expand_as(data.latents)
    figures: list[float] = []
    settings = train_settings(steps=40, batch_size=4, learning_rate=3e-3)
    made = Trainer(small_unet(), denoise(), (), source(data), settings, tmp_path, 0)  # type: ignore[arg-type]
    made.run(lambda r: figures.append(r.figures["loss"]))
    assert sum(figures[-10:]) < 0.7 * sum(figures[:10])


def test_accumulated_gradients_are_those_of_the_larger_batch(tmp_path: Path) -> None:
    """Two micro-batches of a loss that is a mean: the step's gradient is the mean of both."""
    made = trainer(tmp_path, gradient_accumulation=2, steps=1, max_grad_norm=1e9)
    number = sum(ord(c) << (8 * i) for i, c in enumerate("generator"[:4]))
    unet = small_unet().train()
    for micro in range(2):
        generator = step_generator(3, 0, number, 2 + micro, 0)
        loss, _ = denoise().loss("generator", unet, source().draw(2, generator), generator)
        (loss / 2).backward()
    expected = {n: p.grad.clone() for n, p in unet.named_parameters() if p.grad is not None}
    seen: dict[str, torch.Tensor] = {}
    optimizer: Any = made.optimizers["generator"]
    step = optimizer.step

    def spy(*args: object) -> object:
        seen.update({n: p.grad.clone() for n, p in made.unet.named_parameters() if p.grad is not None})
        return step(*args)

    optimizer.step = spy
    made.run()
    assert seen.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(seen[name], expected[name])


def test_the_average_of_weights_is_returned(tmp_path: Path) -> None:
    """Two steps: the average starts as the first stepped weights, then decays by (1 + n) / (10 + n), n = 1."""
    weights: list[list[torch.Tensor]] = []
    made = trainer(tmp_path / "last", steps=2, ema_decay=0.0)
    made.run(lambda report: weights.append([p.detach().clone() for p in made.unet.parameters()]))
    mean = trainer(tmp_path / "mean", steps=2, ema_decay=0.5).run()
    for first, second, averaged in zip(*weights, mean.parameters(), strict=True):
        torch.testing.assert_close(averaged, 2 / 11 * first + 9 / 11 * second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("objective", ["denoise", "adversarial"])
def test_bf16_trains(tmp_path: Path, objective: str) -> None:
    unet = trainer(tmp_path, objective, steps=2, mixed_precision="bf16").run()
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in unet.parameters())


def test_reports_carry_throughput_and_memory(tmp_path: Path) -> None:
    reports: list[Report] = []
    trainer(tmp_path, steps=3).run(reports.append)
    assert [r.step for r in reports] == [1, 2, 3] and reports[0].steps == 3
    assert reports[-1].clips_per_s > 0 and reports[-1].memory_mb > 50


class Poisoned:
    """The denoising objective, whose loss is not a number in chosen steps."""

    def __init__(self, bad: set[int]) -> None:
        self.inner, self.bad, self.calls = denoise(), bad, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def loss(self, phase: str, unet: object, batch: object, generator: object) -> tuple[torch.Tensor, dict[str, float]]:
        loss, figures = self.inner.loss(phase, unet, batch, generator)  # type: ignore[arg-type]
        self.calls += 1
        if self.calls - 1 in self.bad:
            return loss * float("nan"), {"loss": float("nan")}
        return loss, figures


def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    unet = small_unet()
    before = [p.clone() for p in unet.parameters()]
    made = Trainer(unet, Poisoned({0}), (), source(), train_settings(steps=1), tmp_path, 0)  # type: ignore[arg-type]
    after = made.run()
    assert made.progress.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, after.parameters(), strict=True))


def test_a_loss_that_stays_not_finite_ends_the_training_with_advice(tmp_path: Path) -> None:
    made = Trainer(small_unet(), Poisoned(set(range(99))), (), source(), train_settings(steps=99), tmp_path, 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"not finite in 20 steps.*learning_rate"):
        made.run()


def test_batches_are_a_function_of_the_numbers_alone() -> None:
    a, b = source().draw(3, step_generator(1, 2, 3)), source().draw(3, step_generator(1, 2, 3))
    other = source().draw(3, step_generator(1, 2, 4))
    assert torch.equal(a.latents, b.latents) and torch.equal(a.conditions.image_latents, b.conditions.image_latents)
    assert not torch.equal(a.conditions.image_latents, other.conditions.image_latents)
    assert a.conditions.added_time_ids[:, :2].tolist() == [[6.0, 127.0]] * 3
    assert clips().latents.shape[1:] == a.latents.shape[1:]
