"""A program that cannot be run ends a process of its own, and the command says so in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from export.run_in_child import _in_child, _run
from mobilevd.errors import UserError


def test_a_process_that_dies_is_told() -> None:
    """Of 280 damaged .pte files, 22 aborted the process that loaded them."""
    with pytest.raises(UserError, match=r"bundle: a program of the bundle ended the process that ran it \(SIGABRT\)"):
        _in_child("bundle", "os", "abort")


def test_values_and_errors_come_back(tmp_path: Path) -> None:
    assert _in_child("bundle", "os.path", "basename", "a/b") == "b"
    with pytest.raises(UserError, match="bundle: a program of the bundle does not run: .*No such file"):
        _in_child("bundle", "os", "listdir", str(tmp_path / "nowhere"))
    answers = []
    sender = SimpleNamespace(send=answers.append, close=lambda: None)
    _run(sender, "b", "mobilevd.picture_files", "open_picture", (tmp_path / "none.png",))  # type: ignore[arg-type]
    assert answers == [("error", f"{tmp_path}/none.png: no such picture")]  # a user's mistake is told as it is
