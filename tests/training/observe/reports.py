"""Reports and clips to tell observers of."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.observe.report import Report, ShownClips


def report(step: int = 10, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "step": step, "steps": 100, "figures": {"loss": 0.4123, "learning_rate": 1e-5, "grad_norm/generator": 0.5},
        "clips_per_s": 12.34, "seconds_per_step": 0.65, "seconds_left": 12000.0, "memory_mb": 23654.0,
    }  # fmt: skip
    return Report(**{**values, **changes})


def shown_clips(folder: Path, step: int = 10) -> ShownClips:
    frames = np.random.default_rng(step).integers(0, 256, (4, 16, 32, 3), dtype=np.uint8)
    sheet = folder / "validation" / f"step-{step:06d}.png"
    sheet.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frames[0]).save(sheet)
    video = sheet.with_suffix(".mp4")
    video.write_bytes(b"video")
    return ShownClips(video, sheet, frames, 8, {"gates": sheet})
