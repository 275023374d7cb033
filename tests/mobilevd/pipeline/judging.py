"""An evaluation and a validation small enough for a test, for one process and for several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from rich.console import Console
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from eval.features import load_extractor
from mobilevd.codecs import load_codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import RunClips, prepare_clips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.evaluate import Evaluator, sampler_of
from mobilevd.pipeline.rows import Entry, plan_entries
from mobilevd.pipeline.watch import validator_of
from tests.mobilevd.unets import small_config
from tests.source import ROOT
from training.observe.report import Observers
from training.observe.validation import StageValidator

CLIPS = 7  # in batches of two: the last has one, and one of two processes none in the last round


def configuration(folder: Path, **evaluation: Any) -> RunConfig:
    """A run of one stage that prunes; its base is written on the first call."""
    if not (folder / "base").exists():
        torch.manual_seed(0)
        unet = SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96))
        unet.save_pretrained(folder / "base")
    return RunConfig.model_validate(
        {
            "name": "judged",
            "output": str(folder / "run"),
            "base": {"model": str(folder / "base"), "codec": str(ROOT / "assets" / "tiny" / "codec")},
            "data": {
                "num_frames": 4, "fps": 8, "height": 32, "width": 64, "clips_per_video": 1, "workers": 0,
                "scenes": {"train": 2, "test": CLIPS + 2, "seconds": 1.0, "fps": 8, "seed": 77},
            },
            "diffusion": {"num_steps": 2},
            "stages": [
                {
                    "name": "pruned",
                    "transforms": [{"kind": "temporal_pruning", "keep": 3}],
                    "objective": {"kind": "denoise"},
                    "training": {"validate_every": 10, "validation_clips": 5},
                }
            ],
            "evaluation": {
                "clips": CLIPS, "height": 24, "width": 48, "batch_size": 2, "sheet_clips": 3, **evaluation,
            },
        }
    )  # fmt: skip


def prepared(config: RunConfig) -> tuple[RunClips, Any, Entry]:
    """Clips, codec and the base's entry; one process has them written before the others come."""
    codec = load_codec(config.base.codec)
    return prepare_clips(config, Display(Console(quiet=True))), codec, plan_entries(config, codec)[1]


def judge(config: RunConfig, processes: PartialState) -> dict[str, Any]:
    """Figures of an evaluation in one step, and the clips that it keeps."""
    clips, codec, entry = prepared(config)
    evaluator = Evaluator.of(config, load_extractor("motion"), codec, clips, processes)
    unet = SpatioTemporalUNet.from_pretrained(entry.model)
    done: list[int] = []
    judged = evaluator.compare(entry, sampler_of(config, entry, unet), done.append)
    return {
        "result": judged.figures, "generated": judged.shown, "real": judged.real, "done": done,
        "reference": evaluator.reference, "kept": judged.kept,
    }  # fmt: skip


def validate(
    config: RunConfig, processes: PartialState, observers: Observers | None = None, sharded: bool = False
) -> dict[str, float]:
    """The figures of a validation after step 10, of a model with gates, in shards (FSDP2) or whole."""
    clips, codec, _ = prepared(config)
    entry = plan_entries(config, codec)[-1]
    torch.manual_seed(1)
    unet = SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96), temporal_gates=True).eval()
    assert unet.temporal_importance is not None
    torch.nn.init.normal_(unet.temporal_importance)
    display = Display(Console(quiet=True))
    validator = validator_of(config, entry, unet, clips, codec, display, processes, observers)
    assert isinstance(validator, StageValidator)
    if sharded:
        fully_shard(unet, mesh=init_device_mesh("cpu", (processes.num_processes,)))
    return validator(10, unet).figures


class Failing:
    """An extractor that fails in one process."""

    name, distance_name, sha256 = "failing", "FD-failing", "0" * 64
    ddof = 1
    protocol: dict[str, Any] = {}

    def __init__(self, rank: int, bad: int) -> None:
        self.fails = rank == bad

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        if self.fails:
            raise UserError("clip 5 is damaged")
        return clips.astype(np.float64).mean((1, 2, 3))
