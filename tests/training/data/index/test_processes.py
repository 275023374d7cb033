"""A function over items in processes that may crash, be killed, or raise."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mobilevd.errors import UserError
from training.data.index.processes import Crashed, over_items


def square(item: int) -> int:
    if item < 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == 1000:
        raise ValueError("a mistake of the program")
    return item * item


def killed_once(marker: str) -> str:
    """Dies at the first attempt, as when somebody else needs the memory."""
    try:
        os.mkdir(marker)
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def ignores_interrupts(item: int) -> bool:
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_results_and_a_crash():
    results = dict(over_items(square, [1, 2, -1, 3, 4], 2))
    assert results == {0: 1, 1: 4, 2: Crashed(-signal.SIGSEGV), 3: 9, 4: 16}
    assert str(results[2]) == "signal 11"


def test_who_was_killed_for_nothing_is_tried_again(tmp_path):
    assert dict(over_items(killed_once, [str(tmp_path / "a")], 1)) == {0: "done"}


def test_a_mistake_of_the_program_is_told_with_its_place():
    with pytest.raises(RuntimeError, match="(?s)test_processes.py.*ValueError: a mistake of the program"):
        list(over_items(square, [1000], 1))


def test_processes_that_end_at_once_are_not_started_for_ever():
    with pytest.raises(UserError, match=r"end at once \(signal 11\): give data.workers=0"):
        list(over_items(square, [-1] * 99, 1))


def test_leaving_ends_the_processes():
    results = over_items(time.sleep, [0, 60, 60], 2)
    next(results)
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 30


def test_ctrl_c_of_the_terminal_reaches_the_parent_alone():
    assert dict(over_items(ignores_interrupts, [0], 1)) == {0: True}
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    found = {}
    thread = threading.Thread(target=lambda: found.update(over_items(square, [3], 1)))
    thread.start()
    thread.join()
    assert found == {0: 9}
