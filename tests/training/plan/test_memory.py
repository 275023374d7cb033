"""The plan of memory and work: parts that can be known otherwise, and the real peak of a small training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.memory.peak import measured_peak
from benchmarks.memory.small_runs import Case
from mobilevd.config.training import TrainingSettings
from mobilevd.errors import UserError
from mobilevd.model.flops import count_flops
from mobilevd.model.unet import SpatioTemporalUNet
from tests.mobilevd.unets import small_config
from tests.training.plan.conftest import MakeConfig
from training.engine.optimizers import make_optimizer
from training.plan.fit import check_memory, fitting, micro_batch, run_of, smallest_change
from training.plan.machine import GIB, Machine
from training.plan.memory import _state_bytes, cost_of, stage_memory

WEIGHTS = 4 * sum(p.numel() for p in SpatioTemporalUNet(**small_config(cross_attention_dim=96)).parameters())


def gpus(count: int = 1, memory_bytes: int = 80 * GIB) -> Machine:
    return Machine("GPU", True, count, memory_bytes)


def test_the_peak_of_a_real_training_is_planned_within_15_percent(tmp_path: Path) -> None:
    case = Case("4 M", "denoise", "no", False)
    run = run_of(case.config(tmp_path))
    planned = stage_memory(run, run.stages[0], Machine("processor", False, 1, GIB), 2).total
    assert planned / measured_peak(case) == pytest.approx(1, abs=0.15)


def test_what_stays_is_counted_by_its_sizes(make_config: MakeConfig) -> None:
    run = run_of(make_config(micro_batch_size=1))
    low = stage_memory(run, run.stages[0], gpus(), 1)
    assert (low.weights, low.gradients, low.ema, low.optimizer) == (WEIGHTS, WEIGHTS, WEIGHTS, 2 * WEIGHTS)
    assert low.frozen == 0
    fast = stage_memory(run, run.stages[1], gpus(), 1)
    assert 0.1 * WEIGHTS < fast.frozen < 0.6 * WEIGHTS  # the way down
    assert fast.weights == fast.gradients > WEIGHTS  # with the heads
    run = run_of(make_config(micro_batch_size=1, frozen_precision="bf16"))
    assert stage_memory(run, run.stages[1], gpus(), 1).frozen == fast.frozen / 2


def test_shards_and_copies(make_config: MakeConfig) -> None:
    run = run_of(make_config(micro_batch_size=1))
    assert stage_memory(run, run.stages[0], gpus(4), 1).gradients == WEIGHTS  # in DDP's buckets
    run = run_of(make_config(micro_batch_size=1, parallel="fsdp"))
    memory = stage_memory(run, run.stages[0], gpus(4), 1)
    assert (memory.weights, memory.gradients, memory.ema) == (WEIGHTS // 4, WEIGHTS // 4, WEIGHTS // 4)
    assert memory.optimizer == 2 * WEIGHTS // 4


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-8bit", "sm3"])
@pytest.mark.parametrize("shape", [(64, 128), (64, 32, 3, 3), (64,), (100, 50)])
def test_states_are_as_large_as_the_optimizers_own(optimizer: Any, shape: tuple[int, ...]) -> None:
    settings = TrainingSettings(optimizer=optimizer, betas=(0.9, 0.99))
    weight = nn.Parameter(torch.randn(shape))
    made = make_optimizer(settings, {"w": weight}, 1e-3, {})
    weight.grad = torch.randn(shape)
    made.step()
    real = 0
    for value in made.state[weight].values():
        parts = [value.codes, value.scale] if hasattr(value, "codes") else [value]
        real += sum(part.numel() * part.element_size() for part in parts if part.ndim > 0)
    assert _state_bytes(settings, shape) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("stage", [0, 1])
def test_more_clips_lie_on_a_straight_line(make_config: MakeConfig, stage: int) -> None:
    run = run_of(make_config(mixed_precision="bf16"))
    exact, line = (cost_of(run, run.stages[stage], 4, True, exact=way) for way in (True, False))
    for name, turn in exact.turns.items():
        assert line.turns[name].with_gradients == pytest.approx(turn.with_gradients, rel=0.03)
        assert line.turns[name].flops == pytest.approx(turn.flops, rel=0.01)


def test_operations_are_those_of_the_forward_pass_three_times(make_config: MakeConfig) -> None:
    run = run_of(make_config())
    forward = count_flops(run.base, 4, 16, 16, training_form=True).flops
    (turn,) = cost_of(run, run.stages[0], 1, True).turns.values()
    assert turn.flops == pytest.approx(3 * forward, rel=0.05)
    run = run_of(make_config(gradient_checkpointing=True))
    (turn,) = cost_of(run, run.stages[0], 1, True).turns.values()
    assert turn.flops == pytest.approx(4 * forward, rel=0.05)


def test_the_largest_micro_batch_that_fits_divides_the_share(make_config: MakeConfig) -> None:
    config = make_config(batch_size=12)
    run = run_of(config)
    needed = {clips: stage_memory(run, run.stages[0], gpus(), clips).total for clips in (4, 6)}
    # what is not asked for first is read off a straight line
    assert micro_batch(config, "low", 1, int(1.02 * needed[6])) == 6
    assert micro_batch(config, "low", 1, int(0.98 * needed[6])) == 4
    assert micro_batch(config, "low", 2, 80 * GIB) == 6  # the whole share of two processes


def test_what_does_not_fit_is_told_with_the_smallest_change(make_config: MakeConfig) -> None:
    run = run_of(make_config(micro_batch_size=4, mixed_precision="bf16"))
    one = run_of(make_config(micro_batch_size=1, mixed_precision="bf16"))
    memory = stage_memory(one, one.stages[0], gpus(), 1).total
    key = "stages.low.training."
    assert smallest_change(run, run.stages[0], gpus(1, memory)) == [f"{key}micro_batch_size=1"]
    with pytest.raises(
        UserError, match=r"stages.low: training needs .* GiB with 4 clips .*; give stages\.low\."
    ) as told:
        fitting(run, run.stages[0], gpus(1, memory))
    assert "\n" not in str(told.value)
    changes = smallest_change(run, run.stages[0], gpus(1, memory - 2**20))
    assert changes and f"{key}gradient_checkpointing=true" in changes
    assert smallest_change(run, run.stages[0], gpus(1, GIB // 4)) == []
    with pytest.raises(UserError, match="no setting makes it fit"):
        check_memory(make_config(), gpus(1, GIB // 4))


def test_training_some_weights_alone_needs_less(make_config: MakeConfig) -> None:
    totals = {}
    for train in ("all", "temporal", "lora"):
        run = run_of(make_config(train=train, lora_rank=2, micro_batch_size=1))
        memory = stage_memory(run, run.stages[0], gpus(), 1)
        totals[train] = memory.gradients + memory.optimizer + memory.ema
        assert memory.weights >= WEIGHTS
    assert totals["lora"] < totals["temporal"] < totals["all"]


def test_sharding_without_gpus_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="training.parallel=fsdp: there is no GPU to shard over; use ddp"):
        check_memory(make_config(parallel="fsdp"), Machine("processor", False, 2, 80 * GIB))
    with pytest.raises(UserError, match="training.parallel=fsdp: there is one process"):
        check_memory(make_config(parallel="fsdp"), gpus())
