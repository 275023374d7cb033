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
from tests.training.helpers import adversarial, clips, denoise, small_unet, source, train_settings, trainer
from training.data.batch import step_generator
from training.loop import Report, Trainer
from training.objectives.base import TrainingContext
from training.objectives.denoise import Denoise


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


class NaNInOnePhase:
    """The adversarial objective, one phase of which never has a finite loss."""

    def __init__(self, phase: str) -> None:
        self.inner, self.phase = adversarial(small_unet()), phase

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def loss(self, phase: str, unet: Any, batch: Any, generator: Any) -> tuple[torch.Tensor, dict[str, float]]:
        loss, figures = self.inner.loss(phase, unet, batch, generator)
        return (loss * float("nan"), {key: float("nan") for key in figures}) if phase == self.phase else (loss, figures)


@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_the_finite_turns_of_another_phase_do_not_hide_one_that_never_is(tmp_path: Path, phase: str) -> None:
    settings = train_settings(steps=99, checkpoint_every=5)
    made = Trainer(small_unet(), NaNInOnePhase(phase), (), source(), settings, tmp_path, 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"the {phase}'s loss or gradient was not finite in 20 steps in a row"):
        made.run()
    assert made.progress.step < 25 and (tmp_path / "checkpoint" / "progress.json").is_file()
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
    made.objective.loss = lambda *_: (sum(p.sum() for p in made.unet.parameters()) * 1e38 * 1e38, {"loss": 0.0})  # type: ignore[method-assign]
    with pytest.raises(UserError, match="not finite in 20 steps in a row"):
        made.run()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training.mixed_precision=fp16: not on cpu.*; use bf16, or no"):
        trainer(tmp_path, mixed_precision="fp16")


def test_checkpoints_are_loaded_onto_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every process would take up memory of the device that the first one wrote from."""
    trainer(tmp_path, steps=3, checkpoint_every=2).run()
    places: list[Any] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: places.append(k.get("map_location")) or load(*a, **k))
    trainer(tmp_path, steps=3, checkpoint_every=2)
    assert places == ["cpu", "cpu"]


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
        generator = step_generator(step)
        objective.loss("generator", small_unet, source().draw(20, generator), generator)  # type: ignore[arg-type]
    assert all(latents == embedding for latents, embedding in seen)
    share = sum(latents for latents, _ in seen) / len(seen)
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / len(seen)) ** 0.5
