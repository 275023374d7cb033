"""Copies of a model or shards of one: the same training, and checkpoints that any number of processes goes on from."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mobilevd.config.transforms import TemporalPruningSettings
from mobilevd.errors import UserError
from mobilevd.transforms.temporal_pruning import TemporalPruning
from tests.launch import launch_script
from tests.training.helpers import adversarial, small_unet, source, train_settings
from training.engine.parallel import check_parallel
from training.engine.share import share_of
from training.loop import Trainer
from training.observe.report import Report

SCRIPT = """
import sys
from pathlib import Path
from tests.training.test_parallel import in_every_process
in_every_process(Path(sys.argv[1]))
"""
STEPS = 4


def made(folder: Path, parallel: str, **changes: Any) -> Trainer:
    """An adversarial training with learned pruning, of global batches of four."""
    unet = small_unet()
    objective = adversarial(unet, discriminator_steps_first=0)
    pruning = TemporalPruning(TemporalPruningSettings(keep=2, learning_rate=0.1))
    settings = train_settings(steps=STEPS, batch_size=4, checkpoint_every=1, parallel=parallel, **changes)
    return Trainer(pruning.begin(unet), objective, [pruning], source(batch_size=4), settings, folder, seed=3)


def stop_after(step: int) -> Any:
    def press(report: Report) -> None:
        if report.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return press


def save(training: Trainer, file: Path, on_report: Any = None) -> None:
    unet = training.run(on_report)
    if training.group.is_first:
        heads = {f"heads.{name}": tensor for name, tensor in training.modules["discriminator"].state_dict().items()}
        save_file({**unet.state_dict(), **heads}, file)


def in_every_process(folder: Path) -> None:
    """What two processes do: train whole, in passes, sharded; stop and go on; go on from one process's checkpoint."""
    for parallel in ("ddp", "fsdp"):
        save(made(folder / parallel, parallel), folder / f"{parallel}.safetensors")
        stopped = folder / f"{parallel}-stopped"
        try:
            made(stopped, parallel).run(stop_after(2))
        except KeyboardInterrupt:
            pass
        again = made(stopped, parallel)
        assert again.progress.step == 2 and not again.notices
        if again.group.is_first:
            shutil.copytree(stopped / "checkpoint", folder / f"{parallel}-of-two" / "checkpoint")
        save(again, folder / f"{parallel}-again.safetensors")
        save(
            made(folder / f"{parallel}-passes", parallel, micro_batch_size=1), folder / f"{parallel}-passes.safetensors"
        )
        from_one = made(folder / f"{parallel}-of-one", parallel)
        assert from_one.progress.step == 2 and "processes 1 -> 2" in from_one.notices[0]
        save(from_one, folder / f"{parallel}-from-one.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    for parallel in ("ddp", "fsdp"):
        stopped = folder / f"{parallel}-of-one"
        with pytest.raises(KeyboardInterrupt):
            made(stopped, "ddp").run(stop_after(2))
    save(made(folder / "one", "ddp"), folder / "one.safetensors")
    launch_script(folder, SCRIPT, folder)
    return folder


def close(ours: Path, theirs: Path) -> None:
    """The same training up to rounding: the weights differ by far less than the training changed them."""
    a, b, before = load_file(ours), load_file(theirs), small_unet().state_dict()
    assert a.keys() == b.keys()
    apart = sum(float((a[name] - b[name]).pow(2).sum()) for name in before)
    moved = sum(float((before[name] - b[name]).pow(2).sum()) for name in before)
    assert moved > 0 and apart < 2.5e-3 * moved, (apart, moved)  # 5 %: Adam amplifies rounding, by the processor


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_what_one_does_at_once_or_in_passes(trained: Path, parallel: str) -> None:
    """The recipe is the same: clips, noise and gates depend on the place in the global batch alone."""
    close(trained / f"{parallel}.safetensors", trained / "one.safetensors")
    close(trained / f"{parallel}-passes.safetensors", trained / "one.safetensors")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_an_interrupted_training_of_two_ends_with_the_same_bits(trained: Path, parallel: str) -> None:
    whole, again = (load_file(trained / f"{parallel}{kind}.safetensors") for kind in ("", "-again"))
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_checkpoint_of_one_is_resumed_by_two_and_of_two_by_one(trained: Path, parallel: str) -> None:
    close(trained / f"{parallel}-from-one.safetensors", trained / "one.safetensors")
    again = made(trained / f"{parallel}-of-two", "ddp")
    assert again.progress.step == 2 and "processes 2 -> 1" in again.notices[0]
    save(again, trained / f"{parallel}-by-one.safetensors")
    close(trained / f"{parallel}-by-one.safetensors", trained / "one.safetensors")


def test_every_process_writes_a_part_of_a_checkpoint(trained: Path) -> None:
    for parallel in ("ddp", "fsdp"):
        shards = list((trained / parallel / "checkpoint" / "step-00000003").glob("shard-*.safetensors"))
        sizes = sorted(shard.stat().st_size for shard in shards)
        assert len(sizes) == 2 and sizes[0] > 0.8 * sizes[1]


def test_shares_divide_the_batch_and_say_what_would() -> None:
    share = share_of(16, 2, 1, 4)
    assert share.passes == 2 and [list(share.places(i)) for i in range(2)] == [[8, 9, 10, 11], [12, 13, 14, 15]]
    with pytest.raises(UserError, match="batch_size: 6 clips cannot be divided evenly over 4 processes; .*: 4 or 8"):
        share_of(6, 4, 0, None)
    with pytest.raises(UserError, match="micro_batch_size: the 8 clips .* passes of 3; possible: 1, 2, 4, 8"):
        share_of(16, 2, 0, 3)


@pytest.mark.parametrize(
    ("processes", "changes", "told"),
    [
        (1, {}, "there is one process, and nothing to shard over; use ddp"),
        (2, {"optimizer": "sm3"}, "SM3 keeps a maximum over whole rows .* use optimizer=adamw, or parallel=ddp"),
        (2, {"optimizer": "adamw-8bit"}, "8-bit states do not follow the shards; use optimizer=adamw"),
        (2, {"train": "lora"}, "are small and are not sharded; use ddp"),
        (2, {"mixed_precision": "fp16"}, "loss scale of fp16 is not shared by the shards; use bf16"),
    ],
)
def test_sharding_that_cannot_be_is_refused(processes: int, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_parallel(train_settings(parallel="fsdp", **changes), processes)
