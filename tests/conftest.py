"""What holds for all tests, before the first of them imports torch."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The models here are so small that a second thread only waits for the first, and does so busily: beside any other work
# on the machine a training of seconds takes minutes. Processes that tests start have it from here.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """What the imports made stays to the end: looked through at every collection, it is a sixth of a lowering's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def pyright(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple["subprocess.Popen[bytes]", Path] | None]:
    """Pyright on the whole project, and the file it writes to; None where no test asks for it.

    It takes a minute of a core, so it begins with the first test and works beside the others, which mostly use one.
    """
    if not any(item.name == "test_pyright" for item in request.session.items):
        yield None
        return
    # the package carries pyright and node; told not to look for a newer one, it needs no network
    offline = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1"}
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    said = tmp_path_factory.mktemp("pyright") / "said.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, **offline},
            start_new_session=True,  # it has node as a child, and both must end with the tests
        )
    try:
        yield process, said
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
