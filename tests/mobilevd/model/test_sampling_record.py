"""The record of how a model is sampled: written, read back, and refused in one line when it is broken."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mobilevd.errors import UserError
from mobilevd.model.sampling_record import FILE, SamplingRecord, read_record, write_record

RECORD = SamplingRecord(
    one_step=True,
    num_steps=1,
    sigma_min=0.002,
    sigma_max=80.0,
    rho=7.0,
    guidance_min=1.0,
    guidance_max=3.0,
    fps=8,
    motion_bucket_id=40,
    noise_aug_strength=0.02,
    num_frames=4,
    height=16,
    width=32,
    codec="/codec",
)


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    write_record(tmp_path, replace(RECORD, codec=None))
    assert read_record(tmp_path) == replace(RECORD, codec=None)
    assert read_record(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"fps": 0}, "fps must be above 0, not 0"),
        ({"sigma_max": float("nan")}, "NaN is no number of JSON's"),
        ({"height": 16.5}, "height must be a whole number, not 16.5"),
        ({"one_step": 1}, "one_step must be true or false, not 1"),
        ({"motion_bucket_id": -1}, "motion_bucket_id must be 0 or more, not -1"),
        ({"codec": 3}, "codec must be the path of a folder or null, not 3"),
        ({"sigma": 3}, "unknown key 'sigma'; known: codec, fps"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({**asdict(RECORD), **change}))
    with pytest.raises(UserError, match=wanted) as caught:
        read_record(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / FILE)) and "\n" not in str(caught.value)


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    for text, wanted in (
        ('{"fps": 8', "not valid JSON"),
        ("[]", "a JSON object was expected"),
        ("{}", "'fps' is missing"),
    ):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UserError, match=wanted):
            read_record(tmp_path)
