"""The plan's counted operations against the formula of `training.observe.step_flops`, by which MFU is told."""

from __future__ import annotations

import pytest

from mobilevd.codecs.loading import codec_without_weights
from tests.training.plan.conftest import MakeConfig
from training.observe.step_flops import forward_flops
from training.observe.step_flops import step_flops as step_flops_by_formula
from training.plan.fit import run_of
from training.plan.work import step_flops


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stage", [0, 1])
def test_what_is_counted_is_what_the_formula_says(make_config: MakeConfig, stage: int, checkpointing: bool) -> None:
    config = make_config(gradient_checkpointing=checkpointing, batch_size=1)
    run = run_of(config)
    planned = run.stages[stage]
    codec = codec_without_weights(config.base.codec)
    latents = (4, 16, 16)
    parts = forward_flops(run.base, latents, planned.stage.objective, codec, encoder=planned.multi_step)
    formula = step_flops_by_formula(planned.stage.objective, parts, checkpointing)
    assert step_flops(run, planned, 1, True) == pytest.approx(formula.total, rel=0.03)
    assert (formula.recomputed > 0) == checkpointing
