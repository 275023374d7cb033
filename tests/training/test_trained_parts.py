"""Training of a part of the weights, and of compiled blocks, through the loop: resumed, merged, and the same model."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from mobilevd.model.anatomy import block_modules
from mobilevd.model.unet import SpatioTemporalUNet
from tests.training.helpers import denoise, small_unet, source, train_settings
from training.engine.checkpoint import saved_tensors
from training.engine.compiled import compile_blocks
from training.loop import Trainer
from training.trainable import Train, merge, select, trained_names


def made(folder: Path, train: Train, **changes: Any) -> Trainer:
    settings = train_settings(steps=4, train=train, **changes)
    unet = select(small_unet(), train, 4)
    return Trainer(unet, denoise(), (), source(), settings, folder, seed=3)


@pytest.mark.parametrize("train", ["temporal", "lora"])
def test_a_part_is_trained_resumed_and_merged(tmp_path: Path, train: Train) -> None:
    whole = merge(made(tmp_path / "whole", train).run())

    def press(report: Any) -> None:
        if report.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "broken", train).run(press)
    again = made(tmp_path / "broken", train)
    assert again.progress.step == 2
    names = set(trained_names(again.unet))
    saved = saved_tensors(tmp_path / "broken" / "checkpoint" / "step-00000002")
    kept = {name.removeprefix("weights/generator/") for name in saved if name.startswith("weights/generator/")}
    assert kept == names, "a checkpoint holds what is trained, and no more"
    merged = merge(again.run())
    before, ours, theirs = small_unet().state_dict(), merged.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys() == before.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    changed = {name for name in before if not torch.equal(before[name], ours[name])}
    assert changed
    if train == "temporal":
        assert changed <= names and not any("spatial_res_block" in name for name in changed)
    merged.save_pretrained(tmp_path / "model")
    loaded = SpatioTemporalUNet.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], ours[name]) for name in ours)


def test_compiled_blocks_are_the_same_model() -> None:
    """Every residual block and transformer is compiled, and no name changes; inductor's own code is not tried here."""
    unet, plain = small_unet(), small_unet()
    compile_blocks([unet], backend="eager")
    assert unet.state_dict().keys() == plain.state_dict().keys()
    compiled = [name for name, module in unet.named_modules() if module._compiled_call_impl is not None]
    assert set(compiled) == set(block_modules(unet)) and len(compiled) == 9
    arguments = (torch.randn(1, 4, 8, 4, 4), torch.zeros(1), torch.randn(1, 1, 8), torch.zeros(1, 3))
    torch.testing.assert_close(unet(*arguments), plain(*arguments))
