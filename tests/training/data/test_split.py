"""Which videos are judged by: the same in every process, in a folder that grows, and as the run recorded it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobilevd.errors import UserError
from tests.source import ROOT
from training.data.split import Split, rank, recorded_split, split_names

NAMES = [f"{part}/clip.mp4" for part in "abcdefghijklmnopqrstuvwxyz"]  # one file name in many folders


def test_the_rule_is_a_fraction_of_the_names() -> None:
    many = [f"{number:05d}.mp4" for number in range(20_000)]
    split = split_names(many, 0.25, seed=0)
    assert abs(len(split.judged) / len(many) - 0.25) < 4 * (0.25 * 0.75 / len(many)) ** 0.5
    assert split.judged | split.trained == set(many) and not split.judged & split.trained
    other = split_names(many, 0.25, seed=1)
    assert 0.2 < len(split.judged & other.judged) / len(split.judged) < 0.3, "another seed is another split"


def test_a_folder_that_grows_keeps_its_split() -> None:
    """Without any record: the side of a name does not depend on the others."""
    small, large = split_names(NAMES[:10], 0.3, 0), split_names(NAMES, 0.3, 0)
    assert small.judged <= large.judged and small.trained <= large.trained
    assert split_names(reversed(NAMES), 0.3, 0) == large


def test_every_process_and_every_start_has_the_same() -> None:
    code = "from tests.training.data.test_split import *; print(sorted(split_names(set(NAMES), 0.3, 7).judged))"
    told = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        told.add(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout)
    assert told == {f"{sorted(split_names(NAMES, 0.3, 7).judged)}\n"}


def test_both_sides_have_a_video() -> None:
    two = sorted(NAMES[:2], key=lambda name: rank(name, 0))
    for fraction in (1e-9, 1 - 1e-9):
        assert split_names(two, fraction, 0) == Split(frozenset(two[:1]), frozenset(two[1:]))
    with pytest.raises(UserError, match="one usable video cannot be split"):
        split_names(NAMES[:1], 0.5, 0)


def test_what_the_run_recorded_is_never_left(tmp_path: Path) -> None:
    """A judged video that the rule alone would not have chosen stays judged, also after it was away for a while."""
    file = tmp_path / "data" / "split.json"
    pair = sorted(NAMES, key=lambda name: rank(name, 0))[-2:]  # the rule holds out neither: the nearer one is taken
    first = recorded_split(file, pair, 0.1, 0)
    assert first.judged == {pair[0]}
    grown = recorded_split(file, NAMES, 0.1, 0)
    assert pair[0] in grown.judged and pair[1] in grown.trained
    without = recorded_split(file, set(NAMES) - {pair[0]}, 0.1, 0)
    assert pair[0] in without.judged
    written = file.stat().st_mtime_ns
    assert recorded_split(file, NAMES, 0.1, 0) == grown and file.stat().st_mtime_ns == written
    assert json.loads(file.read_text())["judged"] == sorted(grown.judged)


def test_a_number_of_videos_is_held_out() -> None:
    split = split_names(NAMES, 5, 0)
    assert len(split.judged) == 5 and split.judged | split.trained == set(NAMES)
    assert split.judged == set(sorted(NAMES, key=lambda name: rank(name, 0))[:5])
    assert len(split_names(NAMES[:2], 1, 0).judged) == 1
    with pytest.raises(UserError, match="data.holdout is 26 of 26 usable videos, which leaves none to train on"):
        split_names(NAMES, 26, 0)


def test_a_number_stays_when_the_folder_grows(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    first = recorded_split(file, NAMES[:10], 4, 0)
    grown = recorded_split(file, NAMES, 4, 0)
    assert grown.judged == first.judged and grown.trained == set(NAMES) - first.judged
    assert recorded_split(file, NAMES[:10], 4, 0) == grown
    with pytest.raises(UserError, match="split.json: the videos were split with"):
        recorded_split(file, NAMES, 5, 0)


def test_records_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    recorded_split(file, NAMES, 0.3, 0)
    with pytest.raises(UserError, match=r"split.json: .*'holdout': 0.3.*'holdout': 0.5.*output=ANOTHER_FOLDER"):
        recorded_split(file, NAMES, 0.5, 0)
    known = split_names(NAMES, 0.3, 0)
    with pytest.raises(UserError, match="usable videos were trained on before in this run"):
        recorded_split(file, list(known.trained), 0.3, 0)
    for content in ("{}", "[]", "not json", '{"judged": 1, "trained": 2, "holdout": 0.3, "seed": 0}'):
        file.write_text(content)
        with pytest.raises(UserError, match="split.json: not the record of a split"):
            recorded_split(file, NAMES, 0.3, 0)
        assert file.read_text() == content
