"""A training that is killed or interrupted ends with the very weights of one that was left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mobilevd.errors import UserError
from tests.source import ROOT
from tests.training.helpers import trainer

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
    wait_for_line(broken, "3")
    time.sleep(0.1)  # somewhere between the report and the next checkpoint
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


def test_a_kill_while_the_checkpoint_is_replaced_loses_nothing(tmp_path: Path) -> None:
    """Between the two renames the old checkpoint stands aside: it is found again."""
    trainer(tmp_path, steps=3).run()
    os.rename(tmp_path / "checkpoint", tmp_path / ".old-0123456789abcdef-checkpoint")
    (tmp_path / ".tmp-0123456789abcdef-checkpoint").mkdir()
    assert trainer(tmp_path, steps=3).progress.step == 2
    assert not (tmp_path / ".tmp-0123456789abcdef-checkpoint").exists()
