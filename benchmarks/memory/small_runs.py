"""Trainings small enough for a processor, whose memory is planned and measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevd.config.schema import RunConfig

ROOT = Path(__file__).resolve().parents[2]
COMMON: dict[str, Any] = {
    "cross_attention_dim": 96,
    "addition_time_embed_dim": 64,
    "projection_class_embeddings_input_dim": 192,
    "num_frames": 8,
}
SIZES: dict[str, dict[str, Any]] = {
    "4 M": {**COMMON, "block_out_channels": [32, 64, 64, 64], "num_attention_heads": [1, 2, 2, 2]},
    "70 M": {**COMMON, "block_out_channels": [64, 128, 256, 256], "num_attention_heads": [1, 2, 4, 4]},
}
"""Configs of UNets, about as many parameters as their names say."""
PIXELS = {"4 M": (64, 128), "70 M": (64, 128)}
"""Height and width of the clips."""


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        size: a key of `SIZES`.
        objective: kind of the objective.
        precision: `mixed_precision`.
        checkpointing: `gradient_checkpointing`.
        passes: passes of a step; two clips each.
    """

    size: str
    objective: str
    precision: str
    checkpointing: bool
    passes: int = 1

    @property
    def name(self) -> str:
        checkpointing = ", checkpointing" if self.checkpointing else ""
        accumulation = f", {self.passes} passes" if self.passes > 1 else ""
        precision = "fp32" if self.precision == "no" else self.precision
        return f"{self.size} parameters, {self.objective}, {precision}{checkpointing}{accumulation}"

    def config(self, folder: Path) -> RunConfig:
        """The configuration of a run of this one stage; its base is written to `folder`, as a config alone."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"_class_name": "SpatioTemporalUNet", **SIZES[self.size]})
        (folder / "config.json").write_text(text)
        height, width = PIXELS[self.size]
        return RunConfig.model_validate(
            {
                "name": "memory",
                "base": {"model": folder, "codec": ROOT / "assets" / "tiny" / "codec"},
                "data": {"num_frames": 8, "height": height, "width": width},
                "training": {
                    "steps": 2,
                    "batch_size": 2 * self.passes,
                    "micro_batch_size": 2,
                    "mixed_precision": self.precision,
                    "gradient_checkpointing": self.checkpointing,
                    "ema_decay": 0.99,
                    "num_threads": 2,
                },
                "stages": [{"name": "stage", "objective": self._objective()}],
            }
        )

    def _objective(self) -> dict[str, Any]:
        own = {"discriminator_steps_first": 0} if self.objective == "adversarial" else {}
        return {"kind": self.objective, **own}


CASES = [
    Case(size, objective, precision, checkpointing)
    for size in SIZES
    for objective in ("denoise", "adversarial")
    for precision in ("no", "bf16")
    for checkpointing in (False, True)
] + [Case("70 M", "denoise", "no", False, passes=2)]
