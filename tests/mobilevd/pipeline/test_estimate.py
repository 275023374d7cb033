"""What a run will need is told before it starts, and goes down as it gets done."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from mobilevd.config import load_config
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline import estimate as module
from mobilevd.pipeline.checks import check_run
from mobilevd.pipeline.estimate import (
    Estimate,
    RowEstimate,
    check_disk,
    describe_estimate,
    describe_rows,
    estimate_run,
    machine_rate,
    matmul_rate,
)
from mobilevd.pipeline.rows import Entry
from mobilevd.shipped import SHIPPED


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return load_config(SHIPPED / "configs" / "smoke.yaml", [f"output={tmp_path_factory.mktemp('run') / 'out'}"])


def test_work_is_counted_stage_by_stage(smoke: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "matmul_rate", lambda device="cpu": 1e12)
    entries = check_run(smoke).entries
    whole = estimate_run(smoke, entries)
    evaluation = smoke.model_copy(deep=True)
    for stage in evaluation.stages:
        stage.training.steps = 0
    judged = estimate_run(evaluation, entries)
    # generating alone: 4 clips of 3 steps of 3.45 GFLOP, and 6 rows at half the size, with what decoding takes
    assert 4 * 3 * 3.45e9 < judged.flops < whole.flops
    twice = smoke.model_copy(deep=True)
    for stage in twice.stages:
        stage.training.steps *= 2
    training, doubled = (sum(row.training_flops for row in each.rows) for each in (whole, estimate_run(twice, entries)))
    assert doubled == 2 * training > 0 and not any(row.training_flops for row in judged.rows)
    assert whole.shortest_s < whole.longest_s
    # nine models of 15 MB at most, one program, three checkpoints of four tensors a weight, 16 small clips
    assert 2e8 < whole.disk_bytes < 4.5e8 and whole.bytes_per_clip == 0


def done(smoke: RunConfig, folder: Path) -> tuple[RunConfig, list[Entry]]:
    """The run in a folder of its own, with what tells that all its rows are there."""
    made = smoke.model_copy(update={"output": folder / "out"})
    entries = check_run(made).entries
    for entry in entries:
        (entry.folder / "model").mkdir(parents=True)
        (entry.folder / "model" / "config.json").write_text("{}")
        (entry.folder / "metrics.json").write_text("{}")
    return made, entries


def test_what_is_done_costs_nothing_more(smoke: RunConfig, tmp_path: Path) -> None:
    left = estimate_run(*done(smoke, tmp_path))
    assert left.flops == 0 and left.longest_s == 0 and left.disk_bytes == 0


def test_own_videos_are_told_by_the_thousand(smoke: RunConfig, tmp_path: Path) -> None:
    own = smoke.model_copy(deep=True)
    own.data.videos, own.output = str(tmp_path), tmp_path / "out"
    estimate = estimate_run(own, check_run(own).entries)
    # 8 frames of 4 x 8 x 16 latents in half precision and a first frame of 32x64: about 9 KB
    assert 8_000 < estimate.bytes_per_clip < 11_000
    assert "9 MB for each 1000 clips" in describe_estimate(estimate)


def test_it_reads_as_a_person_would_say_it() -> None:
    told = describe_estimate(Estimate(3e18, 9e13, 50_000.0, 400_000.0, 270_000_000_000, 500_000))
    assert told == (
        "estimate: 14 h to 4.6 days if nothing else runs here (3,000 PFLOP; matrix products take 90.0 TFLOP/s), "
        "270 GB of disk, and 0.50 GB for each 1000 clips"
    )
    assert describe_estimate(Estimate(0.0, 1e9, 0.0, 0.0, 0, 0)) == "estimate: nothing is left to make"
    # 900 GFLOP at 0.45 and 0.1 of 100 GFLOP/s, beside 4 s to 8 s of other things
    rows = (
        RowEstimate("+ funnels", 6e11, 3e11, 4.0),
        RowEstimate("base", 0.0, 0.0, 2.0),
        RowEstimate("encoding", 0.0, 1e9, 0.0),
    )
    assert describe_rows(Estimate(9e11, 1e11, 0, 0, 0, 0, rows)) == [
        "+ funnels: 24 s to 1.6 min, 600 GFLOP of training",
        "base: 2 s to 4 s",
    ]


def test_a_disk_that_is_too_small_is_told_before_any_work(smoke: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: usage(10**12, 10**12, 10**7))
    with pytest.raises(UserError, match=r"out: the run needs about 0\.32 GB there and 10 MB are free; free some space"):
        check_disk(smoke, Estimate(1.0, 1.0, 1.0, 1.0, 320_000_000, 0))


def test_what_is_made_anew_counts_again(smoke: RunConfig, tmp_path: Path) -> None:
    made, entries = done(smoke, tmp_path)
    anew = estimate_run(made, entries, removed=entries[-2:])
    assert [row.name for row in anew.rows] == [*(entry.label for entry in entries[-2:]), "encoding clips at 32x64"]
    assert all(row.training_flops > 0 for row in anew.rows[:2]) and anew.disk_bytes > 1e8
    with (entries[-1].folder / "model" / "weights").open("wb") as file:
        file.truncate(50_000_000)
    freed = anew.disk_bytes - estimate_run(made, entries, removed=entries[-2:]).disk_bytes
    assert freed == 50_000_000  # their room is free again


def test_the_rate_is_that_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e8 < matmul_rate("cpu", 0.02) < 1e13
    monkeypatch.setattr(module, "matmul_rate", lambda device="cpu": 1.0)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda process: range(8))
    # threads of processes share the cores that there are
    assert (machine_rate(2), machine_rate(), machine_rate(2, 3), machine_rate(4, 3)) == (2, 8, 6, 8)
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    assert machine_rate(2, 3) == 3
