"""`mobilevd cache`, and the clips that a training finds: encoded once, in the run's folder or where `data.cache` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from mobilevd.codecs import load_codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.data import prepare_clips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.latents import training_latents
from mobilevd.pipeline.processes import join_processes
from mobilevd.pipeline.rows import plan_entries
from mobilevd.pipeline.run import cache
from tests.mobilevd.unets import small_config
from tests.source import ROOT
from training.data.store.pieces import Encoder
from training.data.store.pixels import PixelStore
from training.data.store.place import LocalPlace

CODEC = ROOT / "assets" / "tiny" / "codec"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "base"
    SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96)).save_pretrained(folder)
    return folder


def settings(base: Path, output: Path, **data: Any) -> RunConfig:
    stage = {"objective": {"kind": "denoise"}, "training": {"steps": 1}}
    return RunConfig.model_validate(
        {
            "name": "mini",
            "output": str(output),
            "base": {"model": str(base), "codec": str(CODEC)},
            "data": {
                "num_frames": 4, "fps": 8, "height": 32, "width": 64, "clips_per_video": 1, "workers": 0,
                "scenes": {"train": 3, "test": 2, "seconds": 1.0, "fps": 8, "seed": 77}, **data,
            },
            "stages": [
                {"name": "first", **stage},
                {"name": "small", "transforms": [{"kind": "resolution", "height": 16, "width": 32}], **stage},
                {"name": "again", **stage},
                {"name": "projection", "transforms": [{"kind": "cross_attention"}]},
            ],
        }
    )  # fmt: skip


def said_by(config: RunConfig) -> str:
    console = Console(record=True, width=400, quiet=False, force_terminal=False)
    cache(config, console)
    return console.export_text()


def test_every_size_is_encoded_once_and_said_before_and_after(base, tmp_path, monkeypatch):
    config = settings(base, tmp_path / "run")
    said = said_by(config)
    assert "first: 3 clips of 4 frames at 32x64; about 0.00 GB to write" in said
    assert "small, again: 3 clips of 4 frames at 16x32" in said and "projection" not in said
    folders = [tmp_path / "run" / "data" / "clips" / name for name in ("32x64-512", "16x32-512")]
    for folder in folders:
        assert f"encoded clips: {folder}" in said and (folder / "manifest.json").is_file()
    assert "encoding clips at 16x32" in said and "clips/s" in said
    monkeypatch.setattr(Encoder, "encode", lambda *_: pytest.fail("encoded again"))
    said = said_by(config)
    assert said.count("encoded already, is checked") == 2 and "encoding clips" not in said
    codec = load_codec(CODEC)
    display, processes = Display(Console(quiet=True)), join_processes()
    clips = prepare_clips(config, display).train
    store = training_latents(config, clips, codec, plan_entries(config, codec)[2], display, processes)
    assert store.sizes == [3] and store.read([2])[0].motion_bucket == 127
    computed = settings(base, tmp_path / "run", latents="computed")
    assert "nothing to encode" in said_by(computed)
    assert isinstance(
        training_latents(computed, clips, codec, plan_entries(config, codec)[2], display, processes), PixelStore
    )


def test_a_cache_that_was_named_serves_another_run_and_refuses_other_clips(base, tmp_path, monkeypatch):
    named = {"cache": str(tmp_path / "shared"), "videos": str(tmp_path / "one" / "data" / "scenes-train")}
    said_by(settings(base, tmp_path / "one"))
    old = tmp_path / "one" / "data" / "latents-32x64-3.safetensors"
    old.write_text("of an earlier version")
    said_by(settings(base, tmp_path / "two", **named))
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", lambda *_: pytest.fail("encoded again"))
        said_by(settings(base, tmp_path / "three", **named))
    with pytest.raises(
        UserError, match="shared/32x64-512: its clips were encoded of 4 frames, not of 2 frames.*; give"
    ):
        said_by(settings(base, tmp_path / "four", **named, num_frames=2))
    said_by(settings(base, tmp_path / "one", fps=4))  # the run's own are made anew
    assert old.read_text() == "of an earlier version"


def test_all_stages_are_added_up_before_the_first_clip(base, tmp_path, monkeypatch):
    config = settings(base, tmp_path / "run")
    monkeypatch.setattr(LocalPlace, "free_bytes", lambda self: 16_000)  # enough for either size
    monkeypatch.setattr(Encoder, "encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(UserError, match="all clips take about 0.0 GB, and 0.0 GB are free there"):
        said_by(config)
