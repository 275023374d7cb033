"""One word for all processes of a launcher: run by torch's launcher, as a user sees it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mobilevd.once_among_processes import is_mine_to_tell, lost_process
from tests.launch import ENVIRONMENT, command
from tests.source import ROOT

WAITING = """
import os, sys, time
from accelerate import PartialState
from mobilevd import cli
from mobilevd.pipeline.processes import join_processes
@cli.app.command()
def wait() -> None:
    state = join_processes()
    os.write(1, f"pid {state.process_index} {os.getpid()}\\n".encode())  # in one piece, beside the other's
    if state.is_main_process:
        state.wait_for_everyone()
    time.sleep(100)
sys.argv = ["mobilevd", "wait"]
cli.main()
"""


def test_one_process_tells_everything() -> None:
    assert is_mine_to_tell("a mistake") and is_mine_to_tell("a mistake")
    assert lost_process(RuntimeError("Connection closed by peer")) is None


def test_a_lost_process_is_told_from_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = RuntimeError("what follows")
    error.__cause__ = RuntimeError("[gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:4711")
    assert "another process of this run has ended" in (lost_process(error) or "")
    assert lost_process(ValueError("a bug")) is None


def test_a_mistake_that_all_processes_meet_is_told_once() -> None:
    done = subprocess.run(
        command("-m", "mobilevd", "run", "configs/tiny.yaml", "training.gradient_accumulation=2"),
        env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0 and said.count("is not a key any more: batch_size is the total") == 1, said


def test_a_dead_process_ends_the_others_with_one_message(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    process = subprocess.Popen(
        command(script), env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    pids: dict[int, int] = {}
    for line in process.stdout:
        if line.startswith("pid"):
            pids[int(line.split()[1])] = int(line.split()[2])
        if len(pids) == 2:
            break
    time.sleep(0.5)
    os.kill(pids[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and said.count("another process of this run has ended, so all end") == 1, said
    assert 'Traceback (most recent call last):\n  File "' + str(script) not in said
