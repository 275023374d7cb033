"""The one training loop: any objective, on any number of processes, resumable at any instant.

Everything random in a step comes from generators seeded by (seed, step, phase, place in the global batch), so a
checkpoint holds weights, optimizers' states and a step number, and a resumed training ends with the same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mobilevd.config.training import TrainingSettings, seen_by_weights
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms import Transform
from training.data.batch import BatchSource
from training.data.draws import Draws, step_generator
from training.engine.average import WeightAverage
from training.engine.checkpoint import CheckpointWriter, find_checkpoint, read_tensors, saved_tensors
from training.engine.compiled import compile_blocks
from training.engine.finite import NonFiniteTurns
from training.engine.forms import set_forms
from training.engine.gradients import average_over_processes, clip, global_norm
from training.engine.group import TrainingGroup
from training.engine.optimizers import make_optimizer, set_rates, step_unless, trained_parameters
from training.engine.parallel import Parallel, make_accelerator
from training.engine.progress import Progress
from training.engine.schedule import rate_factor
from training.engine.share import share_of
from training.engine.slow_precision import slow_precision
from training.engine.states import Tensors, empty_like_saved, optimizer_tensors, restore_optimizer
from training.interrupt import deferred_interrupt
from training.objectives.base import GENERATOR, Objective
from training.observe.report import Report, Validator
from training.observe.throughput import Meter, peak_tflops

LOWEST_SCALE = 1.0  # a loss scale of fp16 below which gradients do not overflow by the scale alone
GATES = 1  # number of the draws of the transforms, which all processes share, among those of a step
WEIGHTS, AVERAGE, OPTIMIZER, SCALER = "weights/", "average/", "optimizer/", "scaler"
"""Beginnings of the names in a checkpoint; a module's name follows."""


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def phase_number(phase: str) -> int:
    """The number of a phase in what is drawn for it."""
    return sum(ord(c) << (8 * i) for i, c in enumerate(phase[:4]))


class Trainer:
    """Trains one stage's UNet with one objective.

    Args:
        unet: the model as the transforms' `begin` left it; changed in place.
        objective: losses and further modules.
        transforms: called before and after every turn (they may set gates).
        source: the source of the batches.
        settings: the stage's training section.
        folder: the stage's folder; `checkpoint/` in it holds the states.
        seed: seed of everything random.
        plan: everything else that decides the outcome, JSON-like, for the fingerprint.
        accelerator: the launching process's; None makes one from the settings.
        micro_batch: clips of one pass where the settings leave it open; None: the whole share of the process.
        validate: called by all processes every `settings.validate_every` steps, with the averaged weights in the model.
        step_flops: FLOPs of an optimizer step in one process, for throughput; None if not counted.
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
        micro_batch: int | None = None,
        validate: Validator | None = None,
        step_flops: float | None = None,
    ) -> None:
        self.accelerator = accelerator or make_accelerator(settings.mixed_precision)
        self.unet, self.objective, self.transforms = unet, objective, transforms
        self.source, self.settings, self.folder, self.seed = source, settings, folder, seed
        self.validate, self.step_flops = validate, step_flops
        self.device = self.accelerator.device
        self.group = TrainingGroup(self.accelerator)
        asked = settings.micro_batch_size or micro_batch
        self.share = share_of(settings.batch_size, self.group.processes, self.group.rank, asked)
        self._set_precision()
        unet.train()
        frozen = objective.frozen()
        set_forms([unet, *frozen], settings.gradient_checkpointing)
        if settings.compile:
            compile_blocks([unet, *frozen])
        # wraps (DDP, FSDP), and moves to the device; the wrapped UNet is what losses call
        self.parallel = Parallel(settings, self.accelerator, unet)
        self.parallel.place_frozen(frozen)
        for module in objective.modules().values():  # not wrapped: DDP has no second derivatives, which R1 takes
            module.to(self.device)
        self.modules: dict[str, nn.Module] = {GENERATOR: unet, **objective.modules()}
        self.trained = {
            name: {key: p for key, p in module.named_parameters() if p.requires_grad}
            for name, module in self.modules.items()
        }
        own_rates: dict[str, float] = {}
        for transform in self.transforms:
            own_rates.update(transform.learning_rates())
        self.optimizers = {
            name: make_optimizer(settings, parameters, objective.learning_rate(name, settings.learning_rate), own_rates)
            for name, parameters in self.trained.items()
        }
        self.average = WeightAverage(self.trained[GENERATOR], settings.ema_decay, self.device)
        self.progress = Progress(plan=self._fingerprint(plan), machinery=self._machinery())
        slow = slow_precision(settings.mixed_precision, self.device)
        self.notices: list[str] = [slow] if slow else []
        """What the user should know of how this training began."""
        self.checkpoints = CheckpointWriter(folder / "checkpoint", settings.keep_checkpoints, self.group)
        self._resume()
        self.non_finite = NonFiniteTurns(self.progress, settings, folder)

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler of fp16, one for all phases; None in other precisions."""
        return cast("torch.amp.GradScaler | None", self.accelerator.scaler)

    def _set_precision(self) -> None:
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if self.settings.tf32 else "highest")
            torch.backends.cudnn.allow_tf32 = self.settings.tf32

    def _fingerprint(self, plan: Any) -> str:
        text = json.dumps([seen_by_weights(self.settings), self.seed, plan], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _machinery(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "processes": self.group.processes,
            "micro_batch_size": self.share.micro_batch,
            "gradient_checkpointing": settings.gradient_checkpointing,
            "parallel": settings.parallel,
            "compile": settings.compile,
            "tf32": settings.tf32,
        }

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _tensors(self) -> Tensors:
        """All that a checkpoint holds, by name."""
        tensors: Tensors = {}
        for name, parameters in self.trained.items():
            tensors |= {f"{WEIGHTS}{name}/{key}": p.detach() for key, p in parameters.items()}
            tensors |= optimizer_tensors(f"{OPTIMIZER}{name}/", parameters, self.optimizers[name])
        tensors |= {f"{AVERAGE}{key}": shadow for key, shadow in self.average.shadow.items()}
        tensors[f"{AVERAGE}/steps"] = self.average.steps
        if self.scaler is not None:
            state = self.scaler.state_dict()
            tensors[SCALER] = torch.tensor([state["scale"], state["_growth_tracker"]], dtype=torch.float64)
        return {
            # a number without a dimension has no place in the file; the reshaped one shares its memory
            name: tensor.reshape(1) if tensor.ndim == 0 else tensor
            for name, tensor in tensors.items()
        }

    def _resume(self) -> None:
        found = find_checkpoint(self.folder / "checkpoint", self.group)
        if found is None:
            return
        place, progress = found
        if progress.plan != self.progress.plan:
            raise UserError(
                f"{place.parent}: this checkpoint was written with other settings; give the settings it was started "
                "with, or delete the folder to train this stage anew"
            )
        self._read(place)
        changed = [
            f"{key} {progress.machinery.get(key)} -> {value}"
            for key, value in self.progress.machinery.items()
            if progress.machinery.get(key) != value
        ]
        if changed:
            self.notices.append(
                f"going on with {', '.join(changed)}: numbers are added up in another order, so the weights' last bits "
                "will differ from those of an uninterrupted training"
            )
        self.progress = Progress(**{**vars(progress), "machinery": self.progress.machinery})

    def _read(self, place: Path) -> None:
        """Read a checkpoint's tensors into weights, averages and optimizers."""
        now, there = self._tensors(), saved_tensors(place)
        places: Tensors = {}
        for name, (size, dtype) in there.items():
            if name in now:
                places[name] = now[name]
            elif name.startswith(OPTIMIZER):
                module, _, rest = name.removeprefix(OPTIMIZER).partition("/")
                places[name] = empty_like_saved(size, dtype, rest, self.trained.get(module, {}))
        missing = sorted(name for name in now if name not in there)
        wrong = [name for name, tensor in places.items() if tensor.shape != there[name][0]]
        if missing or wrong:
            raise UserError(
                f"{place}: a broken checkpoint ({'no ' if missing else 'another size of '}{(missing + wrong)[0]}); delete "
                "this folder to go on from the one before"
            )
        read_tensors(place, places, self.group)
        for name, parameters in self.trained.items():
            restore_optimizer(f"{OPTIMIZER}{name}/", parameters, self.optimizers[name], places)
        if self.scaler is not None:
            scale, growth = places[SCALER].tolist()
            state = self.scaler.state_dict()
            self.scaler.load_state_dict({**state, "scale": scale, "_growth_tracker": int(growth)})

    def _save(self) -> None:
        self.non_finite.settle()
        self.checkpoints.start(self._tensors(), self.progress)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self, on_report: Callable[[Report], None] | None = None) -> SpatioTemporalUNet:
        """Train to the last step; return the model with the averaged weights, on the CPU.

        With shards, the first process alone gets all of it. After a kill at any instant, the same call continues from the
        last checkpoint; Ctrl-C writes one first and then raises KeyboardInterrupt. UserError if the loss stays non-finite.
        """
        settings = self.settings
        peak = peak_tflops(self.device, settings.mixed_precision, settings.tf32)
        meter = Meter(self.progress.step, settings.steps, settings.batch_size, self.step_flops, peak)
        with closing(self.checkpoints), deferred_interrupt() as interrupt:
            while self.progress.step < settings.steps:
                figures = self._step(self.progress.step)
                self.progress.step += 1
                step, last = self.progress.step, self.progress.step == settings.steps
                logged = step % settings.log_every == 0 or last
                if logged or self.device.type == "cpu":  # there nothing has to be waited for
                    self.non_finite.settle()
                if logged:
                    report = self._report(figures, meter)
                    if on_report is not None and self.group.is_first:
                        on_report(report)
                with meter.paused():
                    best = self._validated(step)
                    stop = self.group.anywhere(interrupt.requested)  # all processes save after the same step
                    if stop or best or (step % settings.checkpoint_every == 0 and not last):
                        self._save()
                if stop:
                    self.checkpoints.finish()
                    raise KeyboardInterrupt
            self.checkpoints.finish()
        self._take_result()
        return self.parallel.whole()

    def _take_result(self) -> None:
        """Put the weights that the stage ends with into the model."""
        best = self.progress.best_step
        if self.settings.result == "best" and best is not None and best != self.progress.step:
            self._read(self.folder / "checkpoint" / f"step-{best:08d}")
            self.notices.append(f"the weights are those after step {best}, the best by validation")
        if self.settings.ema_decay > 0:
            self.average.copy_to_weights()

    def _report(self, figures: dict[str, Any], meter: Meter) -> Report:
        """The state after a step that is logged; figures are means over the processes."""
        step = self.progress.step
        names, values = list(figures), [torch.as_tensor(value, dtype=torch.float64) for value in figures.values()]
        numbers = self.group.mean(torch.stack([v.detach().to("cpu") for v in values]).tolist()) if values else []
        numbers_by_name = dict(zip(names, numbers, strict=True))
        numbers_by_name["learning_rate"] = self.settings.learning_rate * rate_factor(self.settings, step - 1)
        return Report(
            step=step,
            steps=self.settings.steps,
            figures=numbers_by_name,
            memory_mb=_peak_memory_mb(self.device),
            **vars(meter.read(step)),
        )

    def _validated(self, step: int) -> bool:
        """Validate if it is time to; return whether the weights are the best so far."""
        if self.validate is None or not self.settings.validate_every or step % self.settings.validate_every:
            return False
        with self.average.in_place(), torch.no_grad(), self._evaluating():
            found = self.validate(step, self.unet)
        distance = found.figures.get("distance")
        if distance is None or not math.isfinite(distance):
            return False
        if self.progress.best_distance is not None and distance >= self.progress.best_distance:
            return False
        self.progress.best_step, self.progress.best_distance = step, distance
        return True

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.unet.eval()
        try:
            with self.accelerator.autocast():
                yield
        finally:
            self.unet.train()

    def _step(self, step: int) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for phase in self.objective.phases(step):
            figures.update(self._turn(step, phase))
        return figures

    def _turn(self, step: int, phase: str) -> dict[str, Any]:
        """Take a phase's turn: accumulate gradients, check them, step. Return its figures (averages over passes)."""
        number = phase_number(phase)
        trained = self.objective.trained_in(phase)
        for transform in self.transforms:
            transform.before_step(self.unet, step_generator(self.seed, step, number, GATES))
        total: dict[str, Any] = {}
        passes = self.share.passes
        for micro in range(passes):
            places = self.share.places(micro)
            draws = Draws(self.seed, step, number, places)
            with self.parallel.synchronized(last=micro == passes - 1):
                batch = self.source.draw(step, number, places, draws)
                self._announce(step, phase, micro)
                with self.accelerator.autocast():
                    loss, figures = self.objective.loss(phase, self.parallel.wrapped, batch, draws)
                self.accelerator.backward(loss / passes)
            for key, value in figures.items():
                total[key] = total.get(key, 0.0) + value / passes
        loss_bad = self._flag(
            ~torch.isfinite(torch.stack([torch.as_tensor(v).to(self.device) for v in total.values()]))
        )
        total |= self._take_step(step, phase, trained, loss_bad)
        for optimizer in self.optimizers.values():  # the adversarial generator leaves gradients in the heads too
            optimizer.zero_grad(set_to_none=True)
        for transform in self.transforms:
            transform.after_step(self.unet)
        return total

    def _take_step(self, step: int, phase: str, trained: list[str], loss_bad: Tensor) -> dict[str, Tensor]:
        """Step the optimizers of a phase unless something is not finite; return the gradients' norms."""
        norms: dict[str, Tensor] = {}
        for name in trained:
            optimizer = self.optimizers[name]
            parameters = trained_parameters(optimizer)
            alone = self.parallel.unshared if name == GENERATOR else parameters
            average_over_processes(alone, self.group.processes)
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
            norms[name] = global_norm(parameters, self.device)
        gradient_bad = self._flag(~torch.isfinite(torch.stack(list(norms.values()))))
        bad = torch.maximum(loss_bad, gradient_bad)
        for name in trained:
            optimizer = self.optimizers[name]
            clip(trained_parameters(optimizer), norms[name], self.settings.max_grad_norm)
            set_rates(optimizer, rate_factor(self.settings, step))
            if self.scaler is None:
                step_unless(bad, optimizer)
            elif not float(bad):
                optimizer.step()
        if GENERATOR in trained:
            self.average.update(bad)
        if self.scaler is not None:
            searching = not float(loss_bad) and self.scaler.get_scale() > LOWEST_SCALE
            self.scaler.update()
            if float(bad) and searching:  # an overflow of gradients is then the scaler's way, and no fault
                return {}
        self.non_finite.note(step, phase, bad)
        return {f"grad_norm/{name}": norm for name, norm in norms.items()}

    def _flag(self, bad: Tensor) -> Tensor:
        """1.0 on the device if anything is `bad` in any process, else 0.0."""
        flag = bad.any().float()
        if self.group.processes > 1:
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return flag

    def _announce(self, step: int, phase: str, micro: int) -> None:
        """Tell the source which batch is next, so that it is read meanwhile."""
        phases = self.objective.phases(step)
        if micro + 1 < self.share.passes:
            following = step, phase, micro + 1
        elif phase != phases[-1]:
            following = step, phases[phases.index(phase) + 1], 0
        elif step + 1 < self.settings.steps:
            following = step + 1, self.objective.phases(step + 1)[0], 0
        else:
            return
        self.source.announce(following[0], phase_number(following[1]), self.share.places(following[2]))
