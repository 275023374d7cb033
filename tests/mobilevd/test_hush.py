"""What libraries say to their developers does not reach the user, whichever way they say it; errors do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.source import ROOT

# In a file of no library that is named anywhere, so that only silence as a kind passes.
SPEAKS = """
import logging, subprocess, sys, warnings
from mobilevd.hush import hush
hush()
warnings.warn("soon gone", FutureWarning)
warnings.warn("be careful")
warnings.warn("CUDA initialization: the driver is too old")
logging.getLogger("some.library").warning("not tested with this version")
own = logging.getLogger("another.library")
own.addHandler(logging.StreamHandler())
own.setLevel(logging.DEBUG)
own.warning("by a handler of its own")
own.error("broken")
from tqdm import tqdm
from tqdm.auto import tqdm as other
for bar in (tqdm, other):
    for _ in bar(range(3), desc="a bar"):
        pass
sys.stderr.flush()
subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a child')"])
"""


def said(script: str, *options: str, **environment: str) -> str:
    silent = ("PYTHONWARNINGS", "TQDM_DISABLE", "TORCH_LOGS", "HF_HUB_DISABLE_PROGRESS_BARS", "TORCH_CPP_LOG_LEVEL")
    inherited = {name: value for name, value in os.environ.items() if name not in silent}
    result = subprocess.run(
        [sys.executable, *options, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**inherited, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_only_errors_and_what_is_for_users_come_through() -> None:
    lines = said(SPEAKS).splitlines()
    assert [line for line in lines if "CUDA initialization" in line and "UserWarning" in line]
    rest = [line for line in lines if "CUDA initialization" not in line]
    assert [line for line in rest if line.strip()] == ["broken"]


@pytest.mark.parametrize(
    ("options", "environment"), [(("-W", "default"), {}), ((), {"PYTHONWARNINGS": "default"})], ids=["-W", "variable"]
)
def test_who_asks_for_warnings_gets_them(options: tuple[str, ...], environment: dict[str, str]) -> None:
    text = said(SPEAKS, *options, **environment)
    assert "soon gone" in text and "be careful" in text


def test_what_the_libraries_say_when_they_are_imported_is_not_heard() -> None:
    script = "from mobilevd.hush import hush; hush(); import diffusers, torchao, coremltools, torch, onnxruntime"
    assert said(script) == ""
