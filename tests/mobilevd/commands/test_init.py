"""Configurations to start from: they load, name what they need, and replace nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from rich.console import Console

from mobilevd.commands.init import init_command
from mobilevd.commands.init_own import own_config
from mobilevd.config.load import load_config
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.shipped import SHIPPED


def started(folder: Path, **given: object) -> str:
    console = Console(record=True, width=200)
    init_command(folder, **given, console=console)  # type: ignore[arg-type]
    return console.export_text()


def test_the_tiny_configurations_find_what_comes_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "configs").mkdir(parents=True)  # a project of the user's with a folder of that name
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = started(tmp_path / "elsewhere" / "mine")
    assert text.splitlines()[-2].endswith("fill in base.model, base.codec, data.videos, evaluation.features")
    assert text.splitlines()[-1] == f"next: mobilevd run {tmp_path}/elsewhere/mine/tiny.yaml"
    for name in ("tiny.yaml", "smoke.yaml"):
        config = load_config(tmp_path / "elsewhere" / "mine" / name)
        assert config.base.model == SHIPPED / "assets/tiny/base" and config.base.model.is_dir()


def test_the_own_configuration_is_the_recipe_with_the_users_places(tmp_path: Path) -> None:
    (tmp_path / "svd" / "unet").mkdir(parents=True)
    (tmp_path / "svd" / "unet" / "config.json").write_text('{"block_out_channels": [32]}')
    (tmp_path / "svd" / "vae").mkdir()
    (tmp_path / "films: a # name").mkdir()
    text = started(tmp_path / "mine", model=tmp_path / "svd", videos=str(tmp_path / "films: a # name"))
    assert text.splitlines()[-2].endswith("; fill in evaluation.features")
    own = load_config(tmp_path / "mine" / "mobilevd.yaml")
    assert own.base.model == own.base.codec == tmp_path / "svd"
    assert own.data.videos == str(tmp_path / "films: a # name")
    recipe = load_config(SHIPPED / "configs" / "mobilevd.yaml")
    assert own.evaluation.features == "i3d:/path/to/i3d_torchscript.pt"
    own.data.videos, own.name, own.output, own.base = recipe.data.videos, recipe.name, recipe.output, recipe.base
    own.evaluation.features = recipe.evaluation.features
    assert own == recipe


def test_the_codec_of_a_unet_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "svd" / "unet").mkdir(parents=True)
    (tmp_path / "svd" / "unet" / "config.json").write_text('{"block_out_channels": [32]}')
    text = started(tmp_path / "alone", model=tmp_path / "svd" / "unet")
    assert text.splitlines()[-2].endswith("; fill in base.codec, data.videos, evaluation.features")
    (tmp_path / "svd" / "vae").mkdir()
    started(tmp_path / "whole", model=tmp_path / "svd" / "unet")
    assert load_config(tmp_path / "whole" / "mobilevd.yaml").base.codec == tmp_path / "svd"


def settings_below(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    sections = {name: field.annotation for name, field in kind.model_fields.items()}
    return {name: each for name, each in sections.items() if isinstance(each, type) and issubclass(each, BaseModel)}


def test_every_key_stands_there_with_its_meaning_and_default(tmp_path: Path) -> None:
    started(tmp_path)
    text = (tmp_path / "mobilevd.yaml").read_text()
    flat = " ".join(line.strip("# ") for line in text.splitlines())
    for section, kind in settings_below(RunConfig).items():
        assert re.search(rf"^#?{section}:$", text, flags=re.MULTILINE), section
        for key, field in kind.model_fields.items():
            if key not in settings_below(kind):
                assert f"{key}: " in flat and field.description and field.description in flat, f"{section}.{key}"
    assert "  # frames of a clip (default: 8)\n  num_frames: 14 " in text
    assert "  # detector of cuts, which no clip crosses" in text and "\n  #shots: auto\n" in text
    # what is left at its default says it truly, and can be changed by taking the # away
    (tmp_path / "all.yaml").write_text(re.sub(r"^( *)#((?:  )?\w+:)", r"\1\2", text, flags=re.MULTILINE))
    assert "\n  shots: auto\n" in (tmp_path / "all.yaml").read_text()
    assert load_config(tmp_path / "all.yaml") == load_config(tmp_path / "mobilevd.yaml")


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text("mine")
    with pytest.raises(UserError, match="smoke.yaml: is there already"):
        started(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["smoke.yaml"]
    assert (tmp_path / "smoke.yaml").read_text() == "mine"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "mobilevd.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(UserError, match="mobilevd.yaml: is there already"):
        started(tmp_path / "linked")
    assert not (tmp_path / "elsewhere.yaml").exists()
    with pytest.raises(UserError, match="is a file"):
        started(tmp_path / "smoke.yaml")


def test_wrong_places_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no-model"):
        started(tmp_path / "mine", model=tmp_path / "no-model")
    with pytest.raises(UserError, match="no such folder or file"):
        started(tmp_path / "mine", videos=str(tmp_path / "no-videos"))
    assert not (tmp_path / "mine").exists()
    assert "https://host/shards-{000..099}.tar" in own_config(
        tmp_path / "a.yaml", videos="https://host/shards-{000..099}.tar"
    )
