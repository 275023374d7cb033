"""Configurations to start from: they load, name what they need, and replace nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mobilevd.commands.init import init_command, own_config
from mobilevd.config.load import load_config
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
    assert "fill in base.model, data.videos" in text and "next: mobilevd run" in text
    for name in ("tiny.yaml", "smoke.yaml"):
        config = load_config(tmp_path / "elsewhere" / "mine" / name)
        assert config.base.model == SHIPPED / "assets/tiny/base" and config.base.model.is_dir()


def test_the_own_configuration_is_the_recipe_with_the_users_places(tmp_path: Path) -> None:
    (tmp_path / "svd" / "unet").mkdir(parents=True)
    (tmp_path / "svd" / "unet" / "config.json").write_text('{"block_out_channels": [32]}')
    (tmp_path / "svd" / "vae").mkdir()
    (tmp_path / "films: a # name").mkdir()
    text = started(tmp_path / "mine", model=tmp_path / "svd", videos=str(tmp_path / "films: a # name"))
    assert "fill in" not in text
    own = load_config(tmp_path / "mine" / "mobilevd.yaml")
    assert own.base.model == own.base.codec == tmp_path / "svd"
    assert own.data.videos == str(tmp_path / "films: a # name")
    recipe = load_config(SHIPPED / "configs" / "mobilevd.yaml")
    own.data.videos, own.name, own.output, own.base = recipe.data.videos, recipe.name, recipe.output, recipe.base
    own.evaluation.features = recipe.evaluation.features
    assert own == recipe


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text("mine")
    with pytest.raises(UserError, match="smoke.yaml: is there already"):
        started(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["smoke.yaml"]
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
