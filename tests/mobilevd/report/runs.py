"""Finished runs as they lie on disk, with everything that a report shows, made without training anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mobilevd.pipeline.shown_clips import write_shown
from mobilevd.report.clip_files import GENERATED, PROGRAM, REAL
from tests.mobilevd.unets import small_config
from training.data.video import write_video

STAGES: list[dict[str, Any]] = [
    {"name": "resolution", "transforms": [{"kind": "resolution"}], "objective": {"kind": "none"}},
    {"name": "adversarial", "transforms": [], "objective": {"kind": "adversarial"}},
    {
        "name": "pruning",
        "transforms": [{"kind": "temporal_pruning"}, {"kind": "funnels"}],
        "objective": {"kind": "adversarial"},
    },
]
LABELS = ["base", "base at 32x16", "+ adversarial <b>finetuning</b>", "+ pruning and funnels"]
FRAMES, SHOWN = 6, 2


def clip(seed: int) -> np.ndarray:
    """A clip (6, 16, 32, 3) in which a square moves."""
    frames = np.full((FRAMES, 16, 32, 3), 40 + 20 * seed, np.uint8)
    for t, frame in enumerate(frames):
        frame[4:10, 2 + 3 * t : 8 + 3 * t] = (220, 60, 40 * seed)
    return frames


def make_run(folder: Path, name: str = "a run", scale: float = 1.0) -> Path:
    """Write a run of four rows; `scale` multiplies its distances."""
    folder.mkdir(parents=True)
    base = folder.parent / "the base"
    _write_config(base, small_config())
    (folder / "config.json").write_text(json.dumps({"base": {"model": str(base)}, "stages": STAGES}))
    rows = []
    for number, label in enumerate(LABELS):
        stage = "base" if number == 0 else STAGES[number - 1]["name"]
        place = folder / f"{number:02d}-{stage}"
        place.mkdir()
        rows.append(_row(number, label, stage, place.name, scale))
        (place / "metrics.json").write_text(json.dumps(rows[-1]))
        write_shown(place, GENERATED, np.stack([clip(i) for i in range(SHOWN)]), 6)
        if number == 0:
            write_shown(place, REAL, np.stack([clip(i) for i in range(SHOWN)]), 6)
        else:
            _write_config(place / "model", _config(number))
    _write_training(folder / "02-adversarial")
    _write_export(folder / "03-pruning")
    write_shown(folder / "03-pruning", PROGRAM, np.stack([clip(i) for i in range(SHOWN)]), 6)
    results = {
        "name": name,
        "created": "2026-03-01T12:00:00+00:00",
        "seed": 0,
        "machine": {"system": "Linux", "versions": {"torch": "2.13.0"}},
        "protocol": {"generated_clips": 8, "reference_clips": 8, "extractor": "motion"},
        "remarks": ["8 clips are few"],
        "rows": rows,
        "pairs": [_pair(LABELS[0], LABELS[1], True), _pair(LABELS[1], LABELS[2], False)],
        "settings": {},
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def _row(number: int, label: str, stage: str, folder: str, scale: float) -> dict[str, Any]:
    distance = scale * (20.0 + 15 * number)
    flops = 1e9 / (1 + number)
    row = {"name": label, "stage": stage, "folder": folder, "nfe": 25 if number < 2 else 1, "distance": distance}
    row |= {"distance_low": 0.8 * distance, "distance_high": 1.2 * distance, "distance_name": "FD-motion"}
    row |= {"motion_ratio": 1.0, "parameters": 1e6 / (1 + number), "tflops": flops / 1e12}
    row |= {"flops_per_clip": flops * row["nfe"], "host_ms": 9.0 - number, "device_ms": None}
    row["unavailable"] = {"device_ms": "no phone was measured"}
    if number == 1:
        row["host_ms_doubts"] = ["noisy: the samples vary by 30 %"]
    return row


def _config(number: int) -> dict[str, Any]:
    """The UNet of a row: the last one is pruned and has funnels."""
    if number < 3:
        return small_config()
    heads = small_config()["num_attention_heads"]
    width = small_config()["block_out_channels"][0] // (heads if isinstance(heads, int) else heads[0]) // 2
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    funnels = {f"{layer}.qk": width, f"{layer}.vo": width}
    return small_config(temporal_blocks=["down_blocks.0.resnets.0"], temporal_scale=2, inner_widths=funnels)


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": "SpatioTemporalUNet", **config}))


def _write_training(folder: Path) -> None:
    lines: list[dict[str, Any]] = []
    for step in range(10, 60, 10):
        figures = {"loss_g": 1 / step, "loss_d": 2 + 1 / step, "grad_norm/generator": 1.0, "learning_rate": 1e-4}
        lines.append({"kind": "step", "step": step, "figures": figures})
        found = {"distance": 900 / step, "distance_low": 700 / step, "distance_high": 1100 / step}
        files = {"video": f"validation/step-{step:06d}.mp4"}
        lines.append({"kind": "validation", "step": step, "figures": found, "files": files})
        write_video(folder / files["video"], clip(1), 6)
    lines.append(
        {
            "kind": "validation",
            "step": 60,
            "figures": {"distance": 9.0},
            "files": {"video": "../00-base/clips/generated-1.mp4"},
        }
    )
    (folder / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_export(folder: Path) -> None:
    program = {
        "parity": {"psnr_db": 131.5, "arithmetic": "float32", "executed_here": True},
        "delegation": {"delegates": 1, "operators_outside": [], "flops_share": 1.0},
        "size_bytes": 2_500_000,
    }
    manifest = {"target": "executorch-xnnpack", "precision": "fp32", "programs": {"unet": program}}
    (folder / "bundle").mkdir()
    (folder / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    bench = {
        "device": {"name": "host", "cpu": "A processor"},
        "figure": {"name": "p50", "ms": 6.0},
        "summary": {"n": 50, "p90": 6.4, "median_ci_low": 5.9, "median_ci_high": 6.1},
        "protocol": {"threads": 2},
        "warnings": ["outliers: 2 of 50"],
        "emulated": False,
    }
    (folder / "bench.json").write_text(json.dumps(bench))


def _pair(first: str, second: str, equal: bool) -> dict[str, Any]:
    compared = {"difference": 15.0, "low": -1.0 if equal else 9.0, "high": 21.0, "equal_within_noise": equal}
    return {"rows": [first, second], "distance": compared}
