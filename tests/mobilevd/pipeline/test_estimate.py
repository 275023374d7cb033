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
from mobilevd.pipeline.estimate import Estimate, check_disk, describe_estimate, estimate_run, matmul_rate
from mobilevd.shipped import SHIPPED


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return load_config(SHIPPED / "configs" / "smoke.yaml", [f"output={tmp_path_factory.mktemp('run') / 'out'}"])


def test_work_is_counted_stage_by_stage(smoke: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "matmul_rate", lambda threads=None: 1e12)
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
    assert estimate_run(twice, entries).flops - judged.flops == pytest.approx(2 * (whole.flops - judged.flops))
    assert whole.shortest_s < whole.longest_s
    assert estimate_run(smoke, entries, 2).longest_s < whole.longest_s
    # nine models of 15 MB at most, one program, three checkpoints of four tensors a weight, 16 small clips
    assert 2e8 < whole.disk_bytes < 4.5e8 and whole.bytes_per_clip == 0


def test_what_is_done_costs_nothing_more(smoke: RunConfig) -> None:
    entries = check_run(smoke).entries
    for entry in entries:
        (entry.folder / "model").mkdir(parents=True, exist_ok=True)
        (entry.folder / "model" / "config.json").write_text("{}")
        (entry.folder / "metrics.json").write_text("{}")
    left = estimate_run(smoke, entries)
    assert left.flops == 0 and left.longest_s == 0 and left.disk_bytes == 0


def test_own_videos_are_told_by_the_thousand(smoke: RunConfig, tmp_path: Path) -> None:
    own = smoke.model_copy(deep=True)
    own.data.videos, own.output = str(tmp_path), tmp_path / "out"
    estimate = estimate_run(own, check_run(own).entries)
    # 8 frames of 4 x 8 x 16 latents in half precision and a first frame of 32x64: about 9 KB
    assert 8_000 < estimate.bytes_per_clip < 11_000
    assert "9 MB for each 1000 clips" in describe_estimate(estimate)


def test_it_reads_as_a_person_would_say_it() -> None:
    told = describe_estimate(Estimate(3e18, 50_000.0, 400_000.0, 270_000_000_000, 500_000))
    assert told == "estimate: 14 h to 4.6 days (3,000 PFLOP), 270 GB of disk, and 0.50 GB for each 1000 clips"


def test_a_disk_that_is_too_small_is_told_before_any_work(smoke: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: usage(10**12, 10**12, 10**7))
    with pytest.raises(UserError, match=r"out: the run needs about 0\.32 GB there and 10 MB are free; free some space"):
        check_disk(smoke, Estimate(1.0, 1.0, 1.0, 320_000_000, 0))


def test_the_rate_is_that_of_a_machine() -> None:
    assert 1e8 < matmul_rate(1, 0.02) < 1e16
