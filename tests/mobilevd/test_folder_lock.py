"""One process at a time writes into a folder; the next is told which, and since when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mobilevd.errors import UserError
from mobilevd.folder_lock import FILE, hold_folder

HOLDER = """
import sys, time
from pathlib import Path
from mobilevd.folder_lock import hold_folder
with hold_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_second_is_told_and_the_lock_dies_with_its_process(tmp_path: Path, end: signal.Signals) -> None:
    child = holder(tmp_path / "run")
    now = datetime.now(UTC).isoformat()[:10]
    with pytest.raises(UserError, match=rf"run: process {child.pid} on .* has been writing .* since {now}T.*; wait"):
        with hold_folder(tmp_path / "run"):
            pass
    child.send_signal(end)
    child.wait()
    with hold_folder(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / FILE).read_text()


def test_a_lock_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / FILE).symlink_to("victim")
    with pytest.raises(UserError, match="cannot be written"), hold_folder(tmp_path):
        pass
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"), hold_folder(tmp_path / "file"):
        pass
