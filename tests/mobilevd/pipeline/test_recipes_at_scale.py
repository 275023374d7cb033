"""The recipes for real checkpoints, shrunk to small widths, on a folder in SVD's own format, in two processes."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from mobilevd.config import load_config
from mobilevd.model.unet import SpatioTemporalUNet
from tests.launch import launch
from tests.source import ROOT
from training.data.corpus import write_corpus
from training.observe.log import read_log

CONTEXT = 24
SMALL = [
    "data.num_frames=4", "data.height=128", "data.width=128", "data.clips_per_video=1", "data.holdout=2",
    "data.min_motion=0.0", "data.workers=0", "diffusion.num_steps=2", "training.latent_clips=null",
    "evaluation.clips=2", "evaluation.height=32", "evaluation.width=32", "evaluation.features=motion",
    "evaluation.batch_size=2", "evaluation.sheet_clips=2", "export.stages=none", "training.num_threads=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def svd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SVD's classes, levels and layers at small widths, in half precision, as its fp16 variant is published."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("svd")
    unet = cast(Any, UNetSpatioTemporalConditionModel)(
        block_out_channels=(32, 32, 64, 64), num_attention_heads=(1, 1, 2, 2), cross_attention_dim=CONTEXT,
        addition_time_embed_dim=32, projection_class_embeddings_input_dim=96, num_frames=14,
    )  # fmt: skip
    vae = cast(Any, AutoencoderKLTemporalDecoder)(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1
    )
    clip = CLIPVisionConfig(
        hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, patch_size=32,
        projection_dim=CONTEXT,
    )  # fmt: skip
    for part, model in (("unet", unet), ("vae", vae)):
        model.half().save_pretrained(root / part, variant="fp16")
    CLIPVisionModelWithProjection(clip).half().save_pretrained(root / "image_encoder", variant="fp16")
    CLIPImageProcessor().save_pretrained(root / "feature_extractor")
    write_corpus(root / "videos", 6, 5, seconds=1.0, height=64, width=64)
    return root


def overrides(recipe: str, svd: Path, output: Path) -> list[str]:
    """What makes a recipe small: sizes, steps and batches; its stages, objectives and optimizers stay."""
    config = load_config(ROOT / "configs" / f"{recipe}.yaml")
    words = [
        f"base.model={svd / 'unet'}",
        f"base.codec={svd}",
        f"data.videos={svd / 'videos'}",
        f"output={output}",
        *SMALL,
    ]
    for i, stage in enumerate(config.stages):
        for j, transform in enumerate(stage.transforms):
            if transform.kind == "resolution":
                words += [f"stages.{i}.transforms.{j}.height=64", f"stages.{i}.transforms.{j}.width=64"]
        if stage.objective.trains:
            words += [f"stages.{i}.training.{key}" for key in ("steps=2", "batch_size=2", "validate_every=1")]
        if "discriminator_steps_first" in type(stage.objective).model_fields:
            words.append(f"stages.{i}.objective.discriminator_steps_first=1")
    return [*words, "training.validation_clips=2", "training.log_every=1"]


@pytest.mark.parametrize(
    ("recipe", "processes", "rows"),
    [
        ("mobilevd", 2, ["resolution", "finetuning", "cross-attention", "adversarial", "temporal-multiscaling",
                         "temporal-pruning", "funnels"]),
        ("sfv", 1, ["size", "adversarial", "full-size"]),
    ],
)  # fmt: skip
def test_a_recipe_runs_end_to_end(svd: Path, tmp_path: Path, recipe: str, processes: int, rows: list[str]) -> None:
    words = overrides(recipe, svd, tmp_path / "run")
    launch("-m", "mobilevd", "run", f"configs/{recipe}.yaml", *words, processes=processes)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["stage"] for row in results["rows"]] == ["base", "base-one-step", *rows]
    last = results["rows"][-1]
    assert last["nfe"] == 1 and last["distance"] > 0
    trained = SpatioTemporalUNet.from_pretrained(tmp_path / "run" / f"{len(rows):02d}-{rows[-1]}" / "model")
    assert all(bool(p.isfinite().all()) for p in trained.parameters())
    history = read_log(next((tmp_path / "run").glob("*-adversarial")))
    assert [line["step"] for line in history.steps] == [1, 2] and len(history.validations) == 2
    assert {"loss_g", "accuracy/temporal.3", "grad_norm/generator"} <= history.steps[-1]["figures"].keys()
    if recipe == "mobilevd":
        assert last["temporal_blocks"] == 11 and last["parameters"] < results["rows"][0]["parameters"]


@pytest.mark.parametrize("recipe", ["mobilevd_joint", "mobilevd_hd", "one_24gb_gpu"])
def test_the_other_recipes_are_whole(recipe: str) -> None:
    config = load_config(ROOT / "configs" / f"{recipe}.yaml")
    assert config.stages[-1].nfe == "one-step"
