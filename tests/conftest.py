"""What holds for all tests, before the first of them imports torch."""

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# `pytest` alone, unlike `python -m pytest`, leaves the project's folder out: benchmarks are tried, too, and processes
# that tests start import the tests.
if (ROOT := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, ROOT)

from tests.workers import ByFile, private_cache  # noqa: E402

# The models here are so small that a second thread only waits for the first, and does so busily: beside any other work
# on the machine a training of seconds takes minutes. Processes that tests start have it from here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
private_cache()
# Each of the many processes that tests start would compile the project anew; what is installed was compiled by setup.sh.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """What the imports made stays to the end: looked through at every collection, it is a sixth of a lowering's time."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite takes every core; what is named on the command line runs at once, in this process.

    One process more than there are cores, because the one with the phones waits for them two thirds of its time.
    """
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return min(len(os.sched_getaffinity(0)) + 1, 5) if whole else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return ByFile(config, log)
