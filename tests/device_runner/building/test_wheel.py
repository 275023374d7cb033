"""The command that downloads ExecuTorch's wheel for another processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_setuptools_still_imports_after_a_look_for_pip() -> None:
    """Python 3.11's setuptools gives up its distutils when pip is looked up as a module, and then does not import."""
    code = (
        "from pathlib import Path\nfrom device_runner.building.wheel import download_command\n"
        "from device_runner.errors import RunnerError\n"
        "try:\n    download_command('1.5.1', 'arm64-v8a', Path('x'))\nexcept RunnerError:\n    pass\nimport setuptools\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
