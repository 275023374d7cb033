"""The one training loop: any objective, any number of processes (accelerate), resumable at any instant.

Everything random in a step comes from generators seeded by (seed, step, micro-batch, rank), so a checkpoint holds
weights, optimizer states and a step number, and a resumed training ends with the same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import nn

from mobilevd.config.training import TrainingSettings
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms import Transform
from training.checkpoint import Progress, load_checkpoint, save_checkpoint
from training.data.batch import BatchSource, step_generator
from training.interrupt import deferred_interrupt
from training.objectives.base import GENERATOR, Objective

MAX_SKIPPED_IN_A_ROW = 20  # this many steps of a phase without a finite loss are no accident
LOWEST_SCALE = 1.0  # a loss scale of fp16 below which gradients do not overflow by the scale alone


@dataclass
class Report:
    """The state shown while training: step done of `steps`, figures, throughput, memory of process or GPU."""

    step: int
    steps: int
    figures: dict[str, float]
    clips_per_s: float
    memory_mb: float


def _schedule(settings: TrainingSettings, step: int) -> float:
    """Factor on the learning rate: linear warm-up, then constant or a cosine down to a hundredth."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def _accelerator(mixed_precision: str) -> Accelerator:
    """An Accelerator of this precision. accelerate keeps one per process, but a run's stages may differ in precision."""
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=mixed_precision)
    if mixed_precision == "fp16" and accelerator.scaler is None:  # accelerate would train in float32, and not say so
        raise UserError(f"training.mixed_precision=fp16: not on {accelerator.device}, only on a GPU; use bf16, or no")
    return accelerator


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Trainer:
    """Trains one stage's UNet with one objective.

    Args:
        unet: the model as the transforms' `begin` left it; changed in place.
        objective: losses and further modules.
        transforms: called before and after every step (they may set gates).
        source: the source of the batches.
        settings: the stage's training section.
        folder: the stage's folder; `checkpoint/` in it holds the state.
        seed: seed of everything random.
        plan: everything else that decides the outcome, JSON-like, for the fingerprint.
        accelerator: the launching process's; None makes one from the settings.
    """

    def __init__(
        self,
        unet: SpatioTemporalUNet,
        objective: Objective,
        transforms: Sequence[Transform[Any]],
        source: BatchSource,
        settings: TrainingSettings,
        folder: Path,
        seed: int,
        plan: Any = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.accelerator = accelerator or _accelerator(settings.mixed_precision)
        self.unet, self.objective, self.transforms = unet, objective, transforms
        self.source, self.settings, self.folder, self.seed = source, settings, folder, seed
        unet.set_gradient_checkpointing(settings.gradient_checkpointing)
        unet.train()
        self.modules: dict[str, nn.Module] = {GENERATOR: unet, **objective.modules()}
        self.optimizers: dict[str, Any] = {name: self._optimizer(name, module) for name, module in self.modules.items()}
        self.progress = Progress(plan=self._fingerprint(plan))
        self.ema = EMAModel(unet.parameters(), decay=settings.ema_decay, use_ema_warmup=False)
        self._resume()
        # accelerate wraps (DDP, mixed precision) and moves to the device; the wrapped UNet is what losses call
        self.wrapped: Any = self.accelerator.prepare_model(unet)
        for module in objective.modules().values():  # not wrapped: DDP has no second derivatives, which R1 takes
            module.to(self.accelerator.device)
        self.optimizers = {n: self.accelerator.prepare_optimizer(o) for n, o in self.optimizers.items()}
        self.ema.to(self.accelerator.device)

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler of fp16, one for all phases; None in other precisions."""
        return cast("torch.amp.GradScaler | None", self.accelerator.scaler)

    def _fingerprint(self, plan: Any) -> str:
        fields = {
            k: v for k, v in vars(self.settings).items() if k not in ("checkpoint_every", "log_every", "num_threads")
        }
        text = json.dumps([fields, self.seed, plan, self.accelerator.num_processes], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _optimizer(self, name: str, module: nn.Module) -> torch.optim.Optimizer:
        rate = self.objective.learning_rate(name, self.settings.learning_rate)
        own: dict[str, float] = {}
        for transform in self.transforms:
            own.update(transform.learning_rates())
        groups: dict[float, list[nn.Parameter]] = {rate: []}
        for key, parameter in module.named_parameters():
            if parameter.requires_grad:
                special = next((value for suffix, value in own.items() if key.endswith(suffix)), rate)
                groups.setdefault(special, []).append(parameter)
        parameters = [
            # a group with its own rate holds choices, not weights; decay would drive them to the same value
            {"params": p, "lr": r, "base_lr": r, "weight_decay": self.settings.weight_decay if r == rate else 0.0}
            for r, p in groups.items()
            if p
        ]
        return torch.optim.AdamW(parameters, lr=rate, betas=self.settings.betas)

    def _resume(self) -> None:
        with self.accelerator.main_process_first():  # the first process repairs what a kill left
            found = load_checkpoint(self.folder / "checkpoint", self.modules, self.optimizers, self.progress.plan)
        if found is not None:
            self.progress, states = found
            self.ema.load_state_dict(states["ema"])
            if self.scaler is not None and "scaler" in states:
                self.scaler.load_state_dict(states["scaler"])

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            unwrapped = {**self.modules, GENERATOR: self.accelerator.unwrap_model(self.wrapped)}
            optimizers = {name: optimizer.optimizer for name, optimizer in self.optimizers.items()}
            states = {"ema": self.ema.state_dict()}
            if self.scaler is not None:
                states["scaler"] = self.scaler.state_dict()
            save_checkpoint(self.folder / "checkpoint", unwrapped, optimizers, states, self.progress)
        self.accelerator.wait_for_everyone()  # a launcher kills all processes when one of them ends

    def run(self, on_report: Callable[[Report], None] | None = None) -> SpatioTemporalUNet:
        """Train to the last step; return the model with the averaged weights.

        Raises UserError if the loss stays non-finite. After a kill at any instant, the same call continues from the
        last checkpoint; Ctrl-C writes one first and then raises KeyboardInterrupt.
        """
        settings, started, first_step = self.settings, time.perf_counter(), self.progress.step
        clips = settings.batch_size * settings.gradient_accumulation * self.accelerator.num_processes
        with deferred_interrupt() as interrupt:
            while self.progress.step < settings.steps:
                figures = self._step(self.progress.step)
                self.progress.step += 1
                step = self.progress.step
                if step % settings.log_every == 0 or step == settings.steps:
                    rate = clips * (step - first_step) / (time.perf_counter() - started)
                    finite = {key: value for key, value in figures.items() if math.isfinite(value)}  # JSON has no NaN
                    self.progress.history.append({"step": float(step), **finite})
                    if on_report is not None:
                        memory = _peak_memory_mb(self.accelerator.device)
                        on_report(Report(step, settings.steps, figures, rate, memory))
                stop = self._anywhere(interrupt.requested)  # all processes save after the same step
                if stop or (step % settings.checkpoint_every == 0 and step < settings.steps):
                    self._save()
                if stop:
                    raise KeyboardInterrupt
        unet = cast(SpatioTemporalUNet, self.accelerator.unwrap_model(self.wrapped))
        if settings.ema_decay > 0:
            self.ema.copy_to(unet.parameters())
        return unet

    def _step(self, step: int) -> dict[str, float]:
        figures: dict[str, float] = {}
        for phase in self.objective.phases(step):
            figures.update(self._turn(step, phase))
        return figures

    def _turn(self, step: int, phase: str) -> dict[str, float]:
        """Take one optimizer's turn: accumulate gradients, check them, step. Return its figures (averages)."""
        settings, optimizer = self.settings, self.optimizers[phase]
        number = sum(ord(c) << (8 * i) for i, c in enumerate(phase[:4]))  # for seeds: another name gives other weights
        unet = cast(SpatioTemporalUNet, self.accelerator.unwrap_model(self.wrapped))
        for transform in self.transforms:
            transform.before_step(unet, step_generator(self.seed, step, number, 1))
        total: dict[str, float] = {}
        for micro in range(settings.gradient_accumulation):
            generator = step_generator(self.seed, step, number, 2 + micro, self.accelerator.process_index)
            batch = self.source.draw(settings.batch_size, generator)
            with self.accelerator.autocast():
                loss, figures = self.objective.loss(phase, self.wrapped, batch, generator)
            self.accelerator.backward(loss / settings.gradient_accumulation)
            for key, value in figures.items():
                total[key] = total.get(key, 0.0) + value / settings.gradient_accumulation
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if phase != GENERATOR:
            self._average_gradients(parameters)
        if self.scaler is not None:
            self.scaler.unscale_(optimizer.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
        loss_is_finite = not self._anywhere(not all(map(math.isfinite, total.values())))
        finite = loss_is_finite and not self._anywhere(not math.isfinite(norm))
        if finite:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * _schedule(settings, step)
            optimizer.step()  # the scaler is updated in it
            if phase == GENERATOR and settings.ema_decay > 0:
                self.ema.step(unet.parameters())
        elif self.scaler is not None:
            self.scaler.update()
        if finite or not (loss_is_finite and self._is_searching()):
            self._count_non_finite(finite, phase, step)
        for other in self.optimizers.values():  # the adversarial generator leaves gradients in the discriminator too
            other.zero_grad(set_to_none=True)
        for transform in self.transforms:
            transform.after_step(unet)
        return total

    def _anywhere(self, flag: bool) -> bool:
        """True if `flag` holds in any process, for decisions that all processes must take alike."""
        if self.accelerator.num_processes == 1:
            return flag
        total = self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum")
        return float(cast(torch.Tensor, total)) > 0

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average gradients over the processes, for modules that DDP does not wrap."""
        if self.accelerator.num_processes == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = cast(torch.Tensor, self.accelerator.reduce(parameter.grad, "mean"))

    def _is_searching(self) -> bool:
        """True if the scaler has room to lower its scale: an overflow of gradients is then its way, and no fault."""
        return self.scaler is not None and self.scaler.get_scale() > LOWEST_SCALE

    def _count_non_finite(self, finite: bool, phase: str, step: int) -> None:
        """Count a phase's steps without a finite loss or gradient, which change nothing; too many in a row are an end."""
        if finite:
            self.progress.skipped_in_a_row[phase] = 0
            return
        self.progress.skipped += 1
        in_a_row = self.progress.skipped_in_a_row.get(phase, 0) + 1
        self.progress.skipped_in_a_row[phase] = in_a_row
        if in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise UserError(
                f"{self.folder}: the {phase}'s loss or gradient was not finite in {in_a_row} steps in a row, the last at "
                f"step {step}; lower training.learning_rate (now {self.settings.learning_rate:g}) or use "
                "training.mixed_precision=no. The last checkpoint is from before, and is kept"
            )
