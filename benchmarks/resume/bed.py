"""A small run of every kind of stage in two processes, as a user launches it, and what it leaves."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet

ROOT = Path(__file__).resolve().parents[2]
ADVERSARIAL = {"kind": "adversarial", "discriminator_steps_first": 2, "heads_conditions": ["image", "noise", "frame"]}


def write_config(folder: Path, steps: int) -> Path:
    """Write a base model and a configuration whose run goes into `folder`/run; return the configuration."""
    torch.manual_seed(0)
    SpatioTemporalUNet(
        down_block_types=(CROSS_DOWN, PLAIN_DOWN),
        up_block_types=(PLAIN_UP, CROSS_UP),
        block_out_channels=(32, 64),
        layers_per_block=1,
        num_attention_heads=(1, 2),
        cross_attention_dim=96,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=4,
    ).save_pretrained(folder / "base")
    values: dict[str, Any] = {
        "name": "campaign",
        "output": str(folder / "run"),
        "base": {"model": str(folder / "base"), "codec": str(ROOT / "assets" / "tiny" / "codec")},
        "data": {
            "num_frames": 4, "fps": 8, "height": 32, "width": 64, "clips_per_video": 2, "workers": 1,
            "scenes": {"train": 24, "test": 8, "seconds": 1.0, "fps": 8, "seed": 77},
        },
        "diffusion": {"num_steps": 3, "guidance_max": 1.0},
        "training": {
            "steps": steps, "batch_size": 4, "micro_batch_size": 1, "checkpoint_every": 2, "log_every": 1,
            "num_threads": 1, "validate_every": 5, "validation_clips": 2, "learning_rate": 1e-3,
        },
        "stages": [
            {"name": "finetuning", "objective": {"kind": "denoise"}},
            {"name": "cross-attention", "transforms": [{"kind": "cross_attention"}]},
            {"name": "adversarial", "objective": ADVERSARIAL},
            {
                "name": "multiscaling",
                "transforms": [{"kind": "temporal_multiscale"}],
                "objective": {**ADVERSARIAL, "updates": "shared", "r1_method": "finite_difference"},
            },
            {
                "name": "pruning",
                "transforms": [{"kind": "temporal_pruning", "keep": 3}],
                "objective": {"kind": "distillation", "teacher": "adversarial"},
            },
            {
                "name": "funnels", "transforms": [{"kind": "funnels"}], "objective": ADVERSARIAL,
                "training": {"optimizer": "sm3"},
            },
        ],
        "evaluation": {"clips": 4, "sheet_clips": 2},
        "export": {"stages": "none"},
    }  # fmt: skip
    file = folder / "campaign.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def launch(config: Path, *more: str, command: str = "run", processes: int = 2) -> subprocess.Popen[str]:
    """Start a command of the product in several processes, in a group of their own."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [*words, "-m", "mobilevd", command, str(config), *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCH_CPP_LOG_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL of a launcher and all its processes, at once."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    for child in ranks_of(process.pid):
        child_kill(child)
    process.communicate()


def child_kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def ranks_of(launcher: int) -> list[int]:
    """Process numbers of a launcher's workers: its children, which may have sessions of their own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == launcher:
                found.append(int(entry.name))
    return sorted(found)


def weights_of(run: Path) -> dict[str, str]:
    """SHA-256 of every file that the stages ended with: models and heads."""
    files = [*run.glob("*/model/*.safetensors"), *run.glob("*/*.safetensors")]
    return {file.relative_to(run).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def place_of(run: Path) -> str:
    """The stage that a run is in, and its last checkpoint, from what lies in its folder."""
    folders = sorted(path for path in run.glob("[0-9][0-9]-*") if path.is_dir())
    if not folders:
        return "data"
    steps = sorted(path.name for path in folders[-1].glob("checkpoint/step-*"))
    return folders[-1].name + (f"/{steps[-1]}" if steps else "")
