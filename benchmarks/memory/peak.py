"""The peak of a training's memory, measured in a process of its own.

A processor's peak is that of the resident memory, in which whatever the C library keeps of freed memory counts. So its
allocator is told to give every freed block of 512 kB or more back at once (`ENVIRONMENT`): then the peak is what is alive.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.memory.small_runs import ROOT, Case

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "524288",
    "MALLOC_TRIM_THRESHOLD_": "524288",
    "MALLOC_MMAP_MAX_": "1000000",
    "OMP_NUM_THREADS": "2",
}
MARK = "peak: "


def measured_peak(case: Case) -> int:
    """Bytes by which a training's resident memory rises at its peak, from before the model is made."""
    command = [sys.executable, __file__, json.dumps(asdict(case))]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise RuntimeError(f"{case.name}: {done.stderr[-2000:]}")
    return int(line.removeprefix(MARK))


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def _train(case: Case, folder: Path) -> int:
    import torch

    from mobilevd.codecs import load_codec
    from mobilevd.model.unet import SpatioTemporalUNet
    from training.data.batch import BatchSource
    from training.data.memory_store import MemoryStore
    from training.loop import Trainer
    from training.objectives import make_objective
    from training.objectives.base import TrainingContext

    config = case.config(folder / "base")
    stage = config.stages[0]
    unet_config = json.loads((folder / "base" / "config.json").read_text())
    del unet_config["_class_name"]
    codec = load_codec(config.base.codec)
    _warm_up()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begin to look for the peak anew
    unet = SpatioTemporalUNet(**unet_config)
    context = TrainingContext(config.diffusion, codec.embedding_dim, lambda: SpatioTemporalUNet(**unet_config))
    objective = make_objective(stage.objective, context)
    data, clips = config.data, stage.training.batch_size
    latent = codec.latent_size(data.height, data.width)
    store = MemoryStore(
        torch.randn(clips, data.num_frames, 4, *latent),
        torch.zeros(clips, 3, data.height, data.width, dtype=torch.uint8),
        torch.randn(clips, 1, codec.embedding_dim),
    )
    source = BatchSource(store, codec, data.fps, torch.device("cpu"), clips, 0)
    Trainer(unet, objective, (), source, stage.training, folder, 0).run()
    return _status("VmHWM") - before


def _warm_up() -> None:
    """Load what PyTorch loads when it first computes: kernels of oneDNN and MKL, threads, autograd."""
    import torch

    torch.set_num_threads(2)
    for dtype in (torch.float32, torch.bfloat16):
        net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4)).to(dtype)
        net(torch.randn(2, 4, 8, 8).to(dtype)).sum().backward()
        query = torch.randn(1, 1, 8, 8).to(dtype)
        torch.nn.functional.scaled_dot_product_attention(query, query, query)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(f"{MARK}{_train(Case(**json.loads(sys.argv[1])), Path(temporary))}", flush=True)
