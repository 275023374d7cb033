"""What the loop does with gradients, averages, precision and losses that are not finite."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from mobilevd.config.objectives import DenoiseSettings
from mobilevd.config.schema import DiffusionSettings
from mobilevd.diffusion.preconditioning import Conditions
from mobilevd.errors import UserError
from tests.training.helpers import adversarial, clips, denoise, draw, small_unet, source, train_settings, trainer
from training.data.draws import Draws
from training.loop import Trainer, phase_number
from training.objectives.base import TrainingContext
from training.objectives.denoise import Denoise
from training.observe.report import Report


def test_denoising_loss_falls(tmp_path: Path) -> None:
    """Every clip is the same: the network can learn it by heart."""
    data = clips()
    data.latents = data.latents[:1].expand_as(data.latents)
    figures: list[float] = []
    settings = train_settings(steps=40, batch_size=4, learning_rate=3e-3)
    made = Trainer(small_unet(), denoise(), (), source(data, 4), settings, tmp_path, 0)  # type: ignore[arg-type]
    made.run(lambda r: figures.append(r.figures["loss"]))
    assert sum(figures[-10:]) < 0.7 * sum(figures[:10])


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """The clips, their noise and so the gradient are the same in one pass of four and in two of two."""
    seen: list[dict[str, torch.Tensor]] = []
    for micro in (4, 2):
        made = trainer(tmp_path / str(micro), batch_size=4, micro_batch_size=micro, steps=1, max_grad_norm=1e9)
        optimizer: Any = made.optimizers["generator"]

        def spy(*args: object, made: Trainer = made, step: Any = optimizer.step) -> object:
            seen.append({n: p.grad.clone() for n, p in made.unet.named_parameters() if p.grad is not None})
            return step(*args)

        optimizer.step = spy
        made.run()
    assert seen[0].keys() == seen[1].keys() and seen[0]
    for name, gradient in seen[0].items():
        torch.testing.assert_close(gradient, seen[1][name], rtol=1e-4, atol=1e-6)
    unet = small_unet().train()  # and they are the objective's own
    draws = Draws(3, 0, phase_number("generator"), range(4))
    batch = source(batch_size=4).draw(0, phase_number("generator"), range(4), draws)
    denoise().loss("generator", unet, batch, draws)[0].backward()
    for name, p in unet.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(seen[0][name], p.grad, rtol=1e-4, atol=1e-6)


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

    def loss(
        self, phase: str, unet: object, batch: object, generator: object
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, figures = self.inner.loss(phase, unet, batch, generator)  # type: ignore[arg-type]
        self.calls += 1
        if self.calls - 1 in self.bad:
            return loss * float("nan"), {"loss": loss.detach() * float("nan")}
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


def test_batches_are_a_function_of_step_and_place_alone() -> None:
    def places(*wanted: int, step: int = 5) -> Any:
        return source(batch_size=4).draw(step, 2, wanted, Draws(3, step, 2, wanted))

    whole, part, other = places(0, 1, 2, 3), places(2, 3), places(0, 1, 2, 3, step=6)
    assert torch.equal(whole.latents[2:], part.latents)
    assert torch.equal(whole.conditions.image_latents[2:], part.conditions.image_latents)
    assert not torch.equal(whole.conditions.image_latents, other.conditions.image_latents)
    assert whole.conditions.added_time_ids[:, :2].tolist() == [[6.0, 127.0]] * 4
    assert clips().latents.shape[1:] == whole.latents.shape[1:]


class NaNInOnePhase:
    """The adversarial objective, one phase of which never has a finite loss."""

    def __init__(self, phase: str) -> None:
        self.inner, self.phase = adversarial(small_unet()), phase

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def loss(self, phase: str, unet: Any, batch: Any, generator: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, figures = self.inner.loss(phase, unet, batch, generator)
        return (
            (loss * float("nan"), {key: loss.detach() * float("nan") for key in figures})
            if phase == self.phase
            else (loss, figures)
        )


@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_the_finite_turns_of_another_phase_do_not_hide_one_that_never_is(tmp_path: Path, phase: str) -> None:
    settings = train_settings(steps=99, checkpoint_every=5)
    made = Trainer(small_unet(), NaNInOnePhase(phase), (), source(), settings, tmp_path, 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"the {phase}'s loss or gradient was not finite in 20 steps in a row"):
        made.run()
    assert made.progress.step < 25 and list((tmp_path / "checkpoint").glob("step-*/progress.json"))
    again = Trainer(small_unet(), NaNInOnePhase(phase), (), source(), settings, tmp_path, 0)  # type: ignore[arg-type]
    assert again.progress.skipped_in_a_row[phase] >= 15, "counted on from the checkpoint"
    with pytest.raises(UserError, match="in 20 steps in a row"):
        again.run()


class Scaled:
    """An accelerator of fp16 as far as gradients go: it scales losses, in the arithmetic of the CPU."""

    def __init__(self, scale: float) -> None:
        self.inner = Accelerator(cpu=True)
        self.inner.scaler = torch.amp.GradScaler("cpu", init_scale=scale)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def scaled_trainer(folder: Path, objective: str, scale: float, **changes: Any) -> Trainer:
    unet = small_unet()
    made = adversarial(unet) if objective == "adversarial" else denoise()
    if scale > 1e30:  # gradients near 1, so that the largest scale makes them overflow
        inner = made.loss
        made.loss = lambda *a: (lambda loss, figures: (loss * 2.0**10, figures))(*inner(*a))  # type: ignore[method-assign]
    settings = train_settings(**changes)
    return Trainer(unet, made, (), source(), settings, folder, 3, accelerator=Scaled(scale))  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["denoise", "adversarial"])
def test_overflows_of_scaled_gradients_are_survived(tmp_path: Path, objective: str) -> None:
    """2^136 times a gradient is infinite: the scale falls by halves, one turn each, until steps are taken again."""
    made = scaled_trainer(tmp_path, objective, 2.0**126, steps=25, ema_decay=0.0)
    before = {name: [p.detach().clone() for p in module.parameters()] for name, module in made.modules.items()}
    made.run()
    assert made.scaler is not None and 1 < made.scaler.get_scale() < 2.0**126
    assert made.progress.skipped == 0, "what the scaler does is no fault"
    for name, module in made.modules.items():
        after = [p for p in module.parameters() if p.requires_grad]
        assert any(not torch.equal(a, b) for a, b in zip(before[name], after, strict=True))
        assert all(bool(p.isfinite().all()) for p in after)


def test_scaled_gradients_give_the_weights_of_unscaled_ones(tmp_path: Path) -> None:
    """A power of two changes no digit, and the clipping sees what it sees without."""
    plain = trainer(tmp_path / "plain", "adversarial", steps=4, max_grad_norm=0.1).run()
    scaled = scaled_trainer(tmp_path / "scaled", "adversarial", 1024.0, steps=4, max_grad_norm=0.1).run()
    for ours, theirs in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_scale_is_kept_over_an_interruption(tmp_path: Path) -> None:
    made = scaled_trainer(tmp_path, "denoise", 2.0**126, steps=6, checkpoint_every=3)
    made.run()
    again = scaled_trainer(tmp_path, "denoise", 2.0**126, steps=6, checkpoint_every=3)
    assert again.progress.step == 3 and again.scaler is not None and again.scaler.get_scale() == 2.0**123


def test_a_scale_that_has_nowhere_to_fall_is_an_end(tmp_path: Path) -> None:
    made = scaled_trainer(tmp_path, "denoise", 4.0, steps=99)
    made.objective.loss = lambda *_: (
        sum(p.sum() for p in made.unet.parameters()) * 1e38 * 1e38,
        {"loss": torch.zeros(())},
    )  # type: ignore[method-assign]
    with pytest.raises(UserError, match="not finite in 20 steps in a row"):
        made.run()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training.mixed_precision=fp16: not on cpu.*; use bf16, or no"):
        trainer(tmp_path, mixed_precision="fp16")


def test_what_guidance_compares_with_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `conditioning_dropout` of all clips the image latents and the embedding are zero, always both."""
    seen: list[tuple[bool, bool]] = []

    def spy(network: Any, x: torch.Tensor, sigma: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        latents, embeddings = conditions.image_latents.flatten(1), conditions.image_embedding.flatten(1)
        seen.extend(zip((latents == 0).all(1).tolist(), (embeddings == 0).all(1).tolist(), strict=True))
        return x

    monkeypatch.setattr("training.objectives.denoise.denoise", spy)
    objective = Denoise(DenoiseSettings(conditioning_dropout=0.25), TrainingContext(DiffusionSettings(), 8))
    for step in range(100):
        objective.loss("generator", small_unet, *draw(20, step))  # type: ignore[arg-type]
    assert all(latents == embedding for latents, embedding in seen)
    share = sum(latents for latents, _ in seen) / len(seen)
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / len(seen)) ** 0.5
