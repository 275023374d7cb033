"""The tables of docs/memory.md: `configs/mobilevd.yaml` at SVD's size on several machines."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory.small_runs import ROOT
from mobilevd.commands.plan_table import COLUMNS, HEADS
from mobilevd.config import load_config
from training.plan.fit import run_of
from training.plan.machine import Machine, machine_of
from training.plan.memory import GIB, stage_memory
from training.plan.stages import PlannedRun

CONFIGS: dict[str, dict[str, Any]] = {
    "unet": {"_class_name": "UNetSpatioTemporalConditionModel", "sample_size": 96, "num_frames": 14},
    "vae": {
        "_class_name": "AutoencoderKLTemporalDecoder",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 768,
        "scaling_factor": 0.18215,
    },
    "image_encoder": {
        "hidden_act": "gelu",
        "hidden_size": 1280,
        "image_size": 224,
        "intermediate_size": 5120,
        "num_attention_heads": 16,
        "num_hidden_layers": 32,
        "patch_size": 14,
        "projection_dim": 1024,
    },
}
"""Stable Video Diffusion's own, without weights."""
SIZES = {"14 frames of 512x256": (256, 512), "14 frames of 1024x576": (576, 1024)}
SHARE = 64
"""Clips of a process in a step."""
STAGES = ("finetuning", "adversarial")
SMALL = {"frozen_precision": "bf16", "optimizer": "adamw-8bit"}
CASES: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("1 x 80 GB", "a100-80gb", 1, {}),
    ("4 x 80 GB, ddp", "a100-80gb", 4, {}),
    ("8 x 80 GB, ddp", "a100-80gb", 8, {}),
    ("4 x 80 GB, fsdp", "a100-80gb", 4, {"parallel": "fsdp"}),
    ("8 x 80 GB, fsdp", "a100-80gb", 8, {"parallel": "fsdp"}),
    ("1 x 24 GB, temporal", "rtx4090", 1, {"train": "temporal", **SMALL}),
    ("1 x 24 GB, lora", "rtx4090", 1, {"train": "lora", **SMALL}),
)
"""Name, GPU, number of GPUs, settings of the training."""


def write_tables(file: Path) -> None:
    """Put the tables behind the page's mark, in the place of those that stand there."""
    mark = "<!-- made by benchmarks/memory_plan.py --table -->\n"
    head = file.read_text().partition(mark)[0]
    text = head + mark
    with tempfile.TemporaryDirectory() as folder:
        for name, (height, width) in SIZES.items():
            text += f"\n## {name}\n"
            for stage in STAGES:
                text += f"\nStage `{stage}`:\n\n| machine | clips | {' | '.join(HEADS)} | a further clip |\n"
                text += "|---|" + "---:|" * (len(HEADS) + 2) + "\n"
                for case in CASES:
                    text += _row(_run(Path(folder), case, height, width), stage, case)
                    file.write_text(text)
                    print(text.splitlines()[-1], flush=True)


def _run(folder: Path, case: tuple[str, str, int, dict[str, Any]], height: int, width: int) -> PlannedRun:
    for part, config in CONFIGS.items():
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "config.json").write_text(json.dumps(config))
    (folder / "feature_extractor").mkdir(exist_ok=True)
    _, gpu, count, settings = case
    overrides = [
        f"base.model={folder}/unet",
        f"base.codec={folder}",
        f"stages.resolution.transforms.0.height={height}",
        f"stages.resolution.transforms.0.width={width}",
        f"hardware.gpu={gpu}",
        f"hardware.gpus={count}",
        *(f"training.{key}={value}" for key, value in settings.items()),
        # the same share on every machine, in several passes
        *(f"stages.{stage}.training.batch_size={SHARE * count}" for stage in STAGES),
    ]
    return run_of(load_config(ROOT / "configs" / "mobilevd.yaml", overrides))


def _row(run: PlannedRun, stage: str, case: tuple[str, str, int, dict[str, Any]]) -> str:
    machine: Machine = machine_of(run.config.hardware)
    planned = run.stage(stage)
    one = stage_memory(run, planned, machine, 1)
    # where the passes of several clips are the peak, and not the averaging of weights
    several, more = (stage_memory(run, planned, machine, clips, exact=False).total for clips in (8, 9))
    further, room = more - several, machine.memory_bytes
    most = 8 + (room - several) // further
    if most < 8:
        most = max(
            (n for n in (1, 2, 4) if stage_memory(run, planned, machine, n, exact=False).total <= room), default=0
        )
    fits = str(most) if most else "none"
    figures = " | ".join(f"{getattr(one, column) / GIB:.1f}" for column in COLUMNS)
    return f"| {case[0]} | {fits} | {figures} | {further / GIB:.1f} |\n"
