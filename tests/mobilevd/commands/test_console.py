"""Progress of devices: a moving line on a terminal, and in a log a line for every program and one now and then."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mobilevd.commands import console as module
from mobilevd.commands.console import show_progress


class Clock:
    now_s = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now_s)
    return clock


def test_a_log_gets_a_line_for_a_program_and_then_one_every_half_minute(clock: Clock) -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=False)
    with show_progress(console) as progress:
        tell = progress("host")
        for second in range(100):
            clock.now_s = float(second)
            tell(f"a/unet (1 of 2): run {second} of at least 1024, about 2 min left", None)
        tell("a/decoder (2 of 2): loading the program", None)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "host: a/unet (1 of 2)",
        *(f"host: a/unet (1 of 2): run {second} of at least 1024, about 2 min left" for second in (30, 60, 90)),
        "host: a/decoder (2 of 2)",
    ]


def test_a_terminal_gets_one_line_that_moves_and_is_gone_at_the_end() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with show_progress(console) as progress:
        tell = progress("host")
        tell("a/unet (1 of 2): run 7 of at least 1024", 0.5)
        console.print("between")  # redraws
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a/unet (1 of 2): run 7 of at least 1024" in text
    assert "host: a/unet" not in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[2K" in text.rpartition("run 7")[2]
