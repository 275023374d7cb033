"""A training that is killed or interrupted ends with the very weights of one that was left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mobilevd.errors import UserError
from tests.training.helpers import trainer

# trains one stage to the end and writes the weights; slow enough to be killed in the middle
SCRIPT = """
import sys, time
from pathlib import Path
from safetensors.torch import save_file
import torch
torch.set_num_threads(1)
from tests.training.helpers import trainer
folder, objective, pause = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
made = trainer(folder, objective, steps=8, checkpoint_every=1)
print("start", made.progress.step, flush=True)
def show(report):
    print(report.step, flush=True)
    time.sleep(pause)
unet = made.run(show)
save_file(unet.state_dict(), folder / "final.safetensors")
print("end", flush=True)
"""


def start(folder: Path, objective: str, pause: float) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder), objective, str(pause)]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=root)


def wait_for_line(process: "subprocess.Popen[str]", wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return
    raise AssertionError(f"the training ended before it printed {wanted!r}")


def test_sigkill_and_the_same_command_again_give_identical_bits(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole", "adversarial", 0.0)
    broken = start(tmp_path / "broken", "adversarial", 0.4)
    wait_for_line(broken, "3")
    time.sleep(0.1)  # somewhere between the report and the next checkpoint
    broken.kill()
    broken.wait()
    again = start(tmp_path / "broken", "adversarial", 0.0)
    output = again.communicate()[0]
    whole.communicate()
    assert whole.returncode == 0 and again.returncode == 0
    first = int(output.split()[1])
    assert first >= 2, "it began anew instead of going on from its checkpoint"
    a, b = load_file(tmp_path / "whole" / "final.safetensors"), load_file(tmp_path / "broken" / "final.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


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
    os.rename(tmp_path / "checkpoint", tmp_path / ".old-checkpoint")
    (tmp_path / ".tmp-checkpoint-abc").mkdir()
    assert trainer(tmp_path, steps=3).progress.step == 2
    assert not (tmp_path / ".tmp-checkpoint-abc").exists()
