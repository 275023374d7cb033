"""A process never outlives the block it is started for."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from device_runner.devices.started import started
from device_runner.errors import RunnerError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
QUIET: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def interrupted_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """What was started; Ctrl-C comes when the process runs, before its caller holds it."""
    born: list[subprocess.Popen[bytes]] = []
    start: Any = subprocess.Popen

    def slow(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        born.append(start(*arguments, **options))
        os.kill(os.getpid(), signal.SIGINT)
        return born[-1]

    monkeypatch.setattr(subprocess, "Popen", slow)
    return born


def test_ctrl_c_while_it_starts_leaves_nothing(interrupted_while_it_starts: list[subprocess.Popen[bytes]]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), started("the program", SLEEP, **QUIET):
        pytest.fail("the block was entered")
    (process,) = interrupted_while_it_starts
    assert process.returncode == -signal.SIGKILL and not psutil.pid_exists(process.pid)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_within_the_block_ends_it_with_its_children(tmp_path: Path) -> None:
    born = tmp_path / "born"
    script = f"sleep 60 & echo $! > {born}.part; mv {born}.part {born}; wait"
    with (
        pytest.raises(ValueError, match="of the block"),
        started("sh", ["sh", "-c", script], **QUIET, with_children=True) as process,
    ):
        while not born.exists():
            assert process.poll() is None
        raise ValueError("of the block")
    assert process.returncode == -signal.SIGKILL
    psutil.wait_procs([psutil.Process(pid) for pid in [int(born.read_text())] if psutil.pid_exists(pid)], timeout=10)
    assert not psutil.pid_exists(int(born.read_text()))


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"the program .*nowhere cannot be started: No such file"):
        with started("the program", [str(tmp_path / "nowhere")], **QUIET):
            pass
