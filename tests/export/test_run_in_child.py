"""A program that cannot be run ends a process of its own, and the command says so in one line."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from export.run_in_child import _in_child, _run
from mobilevd.errors import UserError


def test_a_process_that_dies_is_told() -> None:
    """Of 280 damaged .pte files, 22 aborted the process that loaded them."""
    with pytest.raises(UserError, match=r"bundle: a program of the bundle ended the process that ran it \(SIGABRT\)"):
        _in_child("bundle", os.abort)


def test_values_and_errors_come_back() -> None:
    assert _in_child("bundle", os.path.basename, "a/b") == "b"
    answers = []
    sender = SimpleNamespace(send=answers.append, close=lambda: None)

    def refuse(bundle: object) -> None:
        raise UserError("no such picture")

    def break_down(bundle: object) -> None:
        raise RuntimeError("loading method forward failed with error 0x23\nmore")

    for function in (refuse, break_down):
        _run(sender, function, (SimpleNamespace(folder=Path("b")),))  # type: ignore[arg-type]
    assert answers == [
        ("error", "no such picture"),
        ("error", "b: a program of the bundle does not run: loading method forward failed with error 0x23"),
    ]
