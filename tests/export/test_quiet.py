"""What compiled runtimes write is held back, wherever they write it, and shown if they fail."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from export.quiet import stderr_held
from tests.source import ROOT


def test_stderr_is_held_back_on_both_ways(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    display = io.StringIO()  # a moving display takes Python's stderr over
    monkeypatch.setattr(sys, "stderr", display)
    with stderr_held():
        os.write(2, b"by number\n")
        print("by name", file=sys.stderr)
    assert display.getvalue() == "" and capfd.readouterr().err == ""
    print("later", file=sys.stderr)
    os.write(2, b"later\n")
    assert display.getvalue() == "later\n" and capfd.readouterr().err == "later\n"


def test_it_is_shown_where_something_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), stderr_held():
        os.write(2, b"by number\n")
        print("by name", file=sys.stderr)
        raise ZeroDivisionError
    assert capfd.readouterr().err == "by number\nby name\n"


RUNS = """
import io, sys
from mobilevd.hush import hush
hush()
import torch
from export.targets.executorch_runtime import run_pte
from executorch.exir import to_edge_transform_and_lower
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
exported = torch.export.export(torch.nn.Conv2d(3, 4, 3), (torch.ones(1, 3, 8, 8),))
edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
open(sys.argv[1], "wb").write(edge.to_executorch().buffer)
display = sys.stderr = io.StringIO()
run_pte(sys.argv[1], [torch.ones(1, 3, 8, 8)], 1)
sys.stderr = sys.__stderr__
print(repr(display.getvalue()))
"""


def test_a_program_runs_without_a_word_of_the_runtime(tmp_path: os.PathLike[str]) -> None:
    """The runtime speaks once a process, of its processor, when it makes its threads."""
    result = subprocess.run(
        [sys.executable, "-c", RUNS, os.path.join(tmp_path, "program.pte")], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "''\n" and result.stderr == ""
