"""The log of a training: a line per event, cut to one course when a training goes on, and never another's file."""

import json
import math
from pathlib import Path

import pytest

from mobilevd.errors import UserError
from tests.training.observe.reports import report, shown_clips
from training.observe.log import FILE, TrainingLog, read_log


def test_every_line_is_there_as_soon_as_it_is_told(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    assert read_log(tmp_path).steps == []
    log.logged(report(10, figures={"loss": 0.5, "bad": math.nan}, mfu=0.4))
    log.validated(10, {"distance": 41.0}, shown_clips(tmp_path))
    history = read_log(tmp_path)
    (line,), (validation,) = history.steps, history.validations
    assert (line["step"], line["steps"], line["figures"], line["mfu"]) == (10, 100, {"loss": 0.5, "bad": None}, 0.4)
    assert validation["figures"] == {"distance": 41.0}
    assert validation["files"]["video"] == "validation/step-000010.mp4"  # wherever the run is moved to
    for raw in (tmp_path / FILE).read_text().splitlines():
        json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_resumed_training_tells_one_course(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    for step in (10, 20, 30):
        log.logged(report(step, figures={"loss": float(step)}))
        log.validated(step, {"distance": float(step)}, None)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind": "step", "step": 15, "fig')  # a kill in the middle of a line
    assert [line["step"] for line in read_log(tmp_path).steps] == [10, 20, 30]
    log = TrainingLog(tmp_path, step=20)
    assert [line["step"] for line in read_log(tmp_path).validations] == [10, 20]
    log.logged(report(30, figures={"loss": 0.25}))
    assert read_log(tmp_path).series("loss") == [(10, 10.0), (20, 20.0), (30, 0.25)]
    assert (tmp_path / FILE).read_text().count("\n") == 5


def test_a_line_without_its_end_is_not_glued_to_the_next(tmp_path: Path) -> None:
    TrainingLog(tmp_path).logged(report(10))
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes() * 2)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1])  # killed before the last character
    TrainingLog(tmp_path, step=10).logged(report(20))
    assert [line["step"] for line in read_log(tmp_path).steps] == [10, 20]


def test_what_is_whole_is_not_written_again(tmp_path: Path) -> None:
    TrainingLog(tmp_path).logged(report(10))
    before = (tmp_path / FILE).stat().st_ino
    TrainingLog(tmp_path, step=10)
    assert (tmp_path / FILE).stat().st_ino == before


def test_another_file_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("my notes\nof the training\n")
    with pytest.raises(UserError, match=r"training_log\.jsonl: is not the log of a training"):
        TrainingLog(tmp_path)
    assert (tmp_path / FILE).read_text() == "my notes\nof the training\n"
