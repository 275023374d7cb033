"""JSON from strangers: limits on size, depth and numbers, and one line for whatever is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mobilevd.commands.report import report_command
from mobilevd.errors import UserError
from mobilevd.json_files import read_json
from mobilevd.model.checkpoint import build_model, read_config
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline.rows import run_settings
from tests.mobilevd.unets import small_unet

BROKEN = {
    "deep": ("[" * 200_000, "nested too deeply"),
    "deep objects": ('{"a":' * 500 + "1" + "}" * 500, "nested more than 100 deep"),
    "long number": ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits"),
    "NaN": ('{"a": NaN}', "NaN is no number of JSON's"),
    "NUL": ('{"a\\u0000b": 1}', "a name with a NUL character"),
    "cut off": ('{"a": ', "not valid JSON"),
    "empty": ("", "not valid JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    text, told = BROKEN[kind]
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(UserError, match=told) as error:
        read_json(file)
    assert str(error.value).startswith(f"{file}: ") and len(str(error.value).splitlines()) == 1
    with pytest.raises(UserError, match="config.json"):
        read_config(tmp_path)
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match="results.json"):
        report_command([tmp_path])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_json(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    with pytest.raises(UserError, match="1099511627776 bytes, more than the"):
        read_json(tmp_path / "huge")
    (tmp_path / "latin").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "latin")


@pytest.mark.parametrize("content", ["[]", "1", '{"rows": 1}', '{"rows": [1]}', '{"rows": [{}]}'])
def test_results_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match="results.json: .*give the command of the run again"):
        report_command([tmp_path])


def test_a_run_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "01-a" / "model").mkdir(parents=True)
    (tmp_path / "01-a" / "entry.json").write_text("[]")
    (tmp_path / "config.json").write_text('{"name": "a web application"}')
    with pytest.raises(UserError, match="config.json: not the configuration of a run"):
        run_settings(tmp_path / "01-a" / "model")


@pytest.mark.parametrize(
    "changes",
    [
        {"layers_per_block": 1_000_000},
        {"layers_per_block": [1_000_000, 1]},
        {"transformer_layers_per_block": 1_000_000},
        {"block_out_channels": [32] * 1000},
        {"block_out_channels": [32, 3_200_000]},
    ],
)
def test_a_config_that_would_build_for_ever_is_refused_at_once(tmp_path: Path, changes: dict[str, object]) -> None:
    small_unet().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(UserError, match=f"config.json: {next(iter(changes))} is .*; (up to 16 levels|it must be)"):
        build_model(SpatioTemporalUNet, tmp_path)


def test_nothing_is_allocated_for_a_config_that_its_weights_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config of 200 GB beside weights of 1 MB: their headers tell."""
    small_unet().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "block_out_channels": [32_768, 65_536]}))
    with pytest.raises(UserError, match="a checkpoint of another architecture: .* has shape"):
        SpatioTemporalUNet.from_pretrained(tmp_path)
