"""Several processes of one run, as torch's launcher starts them: on the CPU, with a thread each."""

import os
import subprocess
import sys
from pathlib import Path

from tests.source import ROOT

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    "OMP_NUM_THREADS": "1",
}


def command(*words: str | Path, processes: int = 2) -> list[str]:
    """The command that runs a script, or `-m` and a module, in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*launcher, *map(str, words)]


def launch(*words: str | Path, processes: int = 2) -> str:
    """Run a command to its end in several processes, which must succeed; what it said."""
    done = subprocess.run(
        command(*words, processes=processes), env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=880
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-4000:]
    return done.stdout


def launch_script(folder: Path, text: str, *arguments: str | Path, processes: int = 2) -> str:
    """`launch` a Python text, written to a folder."""
    script = folder / "script.py"
    script.write_text(text)
    return launch(script, *arguments, processes=processes)
