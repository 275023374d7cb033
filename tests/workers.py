"""The division of the tests among processes, one more than there are cores (pytest-xdist)."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/device_runner/", "tests/export/targets/")
"""Folders whose files share what is slow to make: phones and built runners, and lowered programs."""


class ByFile(LoadScopeScheduling):
    """Gives a process one file of tests after the other, or one of the folders above, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def private_cache() -> None:
    """Give this process a cache folder of its own: whoever shares one measures in turns, and tests do not wait."""
    if "MOBILEVD_CACHE" in os.environ or "PYTEST_XDIST_WORKER" not in os.environ:
        return
    run, worker = os.environ["PYTEST_XDIST_TESTRUNUID"], os.environ["PYTEST_XDIST_WORKER"]
    folder = Path(tempfile.gettempdir(), f"mobilevd-tests-{run}-{worker}")
    os.environ["MOBILEVD_CACHE"] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
