"""A training that is killed or interrupted ends with the very weights of one that was left alone."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from tests.source import ROOT
from tests.training.helpers import train_settings, trainer
from training.engine.optimizers import make_optimizer
from training.engine.states import optimizer_tensors, restore_optimizer
from training.observe.report import Report

# trains one stage, slow enough to be killed in the middle
SCRIPT = """
import sys, time
from pathlib import Path
from tests.training.helpers import trainer
def show(report):
    print(report.step, flush=True)
    time.sleep(0.4)
trainer(Path(sys.argv[1]), "adversarial", steps=8, checkpoint_every=1).run(show)
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # another number adds up in another order
    environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def wait_for_line(process: "subprocess.Popen[str]", wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return
    raise AssertionError(f"the training ended before it printed {wanted!r}")


def test_sigkill_and_the_same_command_again_give_identical_bits(tmp_path: Path) -> None:
    broken = start(tmp_path / "broken")
    wait_for_line(broken, "4")
    time.sleep(0.1)  # somewhere between the report and the next checkpoint, or while that is being written
    broken.kill()
    broken.wait()
    whole = trainer(tmp_path / "whole", "adversarial", steps=8, checkpoint_every=1).run()
    again = trainer(tmp_path / "broken", "adversarial", steps=8, checkpoint_every=1)
    assert 2 <= again.progress.step < 8, "it began anew instead of going on from its checkpoint"
    a, b = whole.state_dict(), again.run().state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_schedulers_notice_saves_and_the_same_call_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    whole = trainer(tmp_path / "whole").run()

    def press(report: object) -> None:
        if report.step == 3:  # type: ignore[attr-defined]
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "broken", checkpoint_every=100).run(press)
    resumed = trainer(tmp_path / "broken", checkpoint_every=100)
    assert resumed.progress.step == 3
    unet = resumed.run()
    for ours, theirs in zip(unet.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, steps=3).run()
    with pytest.raises(UserError, match="other settings"):
        trainer(tmp_path, steps=3, learning_rate=5e-3)


def test_a_kill_while_a_checkpoint_is_written_loses_nothing(tmp_path: Path) -> None:
    """What is not whole is no checkpoint: the one before counts, and the rest is removed."""
    trainer(tmp_path, steps=5).run()
    (tmp_path / "checkpoint" / ".tmp-0123456789abcdef-step-00000005").mkdir()
    half = tmp_path / "checkpoint" / "step-00000005"
    half.mkdir()  # its progress is written last and removed first
    assert trainer(tmp_path, steps=5).progress.step == 4
    assert not (tmp_path / "checkpoint" / ".tmp-0123456789abcdef-step-00000005").exists()


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    trainer(tmp_path, steps=8, checkpoint_every=1, keep_checkpoints=3).run()
    kept = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert kept == ["step-00000005", "step-00000006", "step-00000007"]


def test_a_truncated_shard_is_told_and_the_one_before_goes_on(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", steps=6).run()
    trainer(tmp_path / "broken", steps=6).run()
    last = tmp_path / "broken" / "checkpoint" / "step-00000004"
    shard = next(last.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"step-00000004: a broken checkpoint .*; delete this folder to go on") as told:
        trainer(tmp_path / "broken", steps=6)
    assert "\n" not in str(told.value)
    shutil.rmtree(last)
    again = trainer(tmp_path / "broken", steps=6)
    assert again.progress.step == 2
    same(again.run(), whole)


@pytest.mark.parametrize("optimizer", ["adamw", "sm3"])
def test_optimizers_go_on_with_identical_bits(tmp_path: Path, optimizer: str) -> None:
    whole = trainer(tmp_path / "whole", "adversarial", steps=4, optimizer=optimizer).run()
    interrupted(tmp_path / "broken", 2, steps=4, optimizer=optimizer)
    same(trainer(tmp_path / "broken", "adversarial", steps=4, optimizer=optimizer).run(), whole)


def test_another_accumulation_and_checkpointing_go_on_and_say_so(tmp_path: Path) -> None:
    changes = {"batch_size": 4, "steps": 4}
    whole = trainer(tmp_path / "whole", "adversarial", **changes).run()
    interrupted(tmp_path / "broken", 2, **changes)
    again = trainer(tmp_path / "broken", "adversarial", micro_batch_size=2, gradient_checkpointing=True, **changes)
    assert again.progress.step == 2
    assert again.notices == [
        "going on with micro_batch_size 4 -> 2, gradient_checkpointing False -> True: numbers are added up in another "
        "order, so the weights' last bits will differ from those of an uninterrupted training"
    ]
    for a, b in zip(whole.parameters(), again.run().parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-4)


def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = trainer(tmp_path, steps=6)
    start = made.checkpoints.start

    def start_on_a_full_disk(tensors: object, progress: object) -> None:
        if made.progress.step == 4:
            monkeypatch.setattr("torch.distributed.checkpoint.filesystem._write_item", full)
        start(tensors, progress)  # type: ignore[arg-type]

    made.checkpoints.start = start_on_a_full_disk  # type: ignore[method-assign, assignment]
    with pytest.raises(UserError, match=r"step-00000004: the disk is full; .*the same command again"):
        made.run()
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["step-00000002"]
    assert trainer(tmp_path, steps=6).progress.step == 2


def interrupted(folder: Path, at: int, **changes: object) -> None:
    """An adversarial training that is stopped after a step."""

    def press(report: Report) -> None:
        if report.step == at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(folder, "adversarial", **changes).run(press)


def same(ours: SpatioTemporalUNet, theirs: SpatioTemporalUNet) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_states_of_eight_bits_are_kept_to_the_bit() -> None:
    """Of one layer, since its step is compiled for every shape."""
    torch.manual_seed(0)
    settings = train_settings(optimizer="adamw-8bit")
    layers = [torch.nn.Linear(64, 128, bias=False) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    named = [dict(layer.named_parameters()) for layer in layers]
    first, second = (make_optimizer(settings, each, 1e-2, {}) for each in named)

    def step(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer, seed: int) -> None:
        layer.weight.grad = torch.randn(128, 64, generator=torch.Generator().manual_seed(seed))
        optimizer.step()

    step(layers[0], first, 1)
    layers[1].load_state_dict(layers[0].state_dict())
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors("o/", named[0], first).items()}
    assert sorted(tensors) == [f"o/weight/{k}" for k in sorted(["exp_avg.codes", "exp_avg.scale", "exp_avg_sq.codes",
                                                               "exp_avg_sq.scale", "step"])]  # fmt: skip
    restore_optimizer("o/", named[1], second, tensors)
    for layer, optimizer in zip(layers, (first, second), strict=True):
        step(layer, optimizer, 2)
    assert torch.equal(layers[0].weight, layers[1].weight)
