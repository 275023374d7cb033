"""What a clip costs: which figure of each program is added up, how often, and over how many frames."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from device_runner.bundle.manifest import ModelEntry
from device_runner.bundle.read import Bundle
from device_runner.measure.clip import clip_latency
from device_runner.measure.measure import Measurement
from device_runner.protocol.statistics import summarize
from device_runner.results.schema import check_report
from tests.device_runner.results import reports

RUNS = {"encoder": 1, "unet": 1, "decoder": 3}


def bundle(**other: Any) -> Bundle:
    fields = {
        "name": "tiny",
        "sha256": "ab" * 32,
        "target": "executorch-xnnpack",
        "precision": "fp32",
        "runs_per_clip": RUNS,
        "manifest": SimpleNamespace(model=ModelEntry(num_frames=6, fps=7)),
        "frames_per_clip": 6,
        **other,
    }
    return cast(Bundle, SimpleNamespace(**fields))


def measured(program: str, summary: dict[str, float] | None, figure: str = "p50") -> Measurement:
    told = None if summary is None else {"name": figure, "ms": summary[figure]}
    made = SimpleNamespace(
        program=program, summary=summary, figure=told, emulated=summary is None, device={"name": "host"}
    )
    return cast(Measurement, made)


def clip_of(of: Bundle, *measurements: Measurement) -> dict[str, Any]:
    clip = clip_latency(of, measurements)
    assert clip is not None
    check_report(reports.report(clips=[clip]))
    return clip


@pytest.mark.parametrize("figure", ["p50", "p90"])
def test_medians_are_added_up_under_every_protocol(figure: str) -> None:
    skewed = [10.0] * 8 + [50.0] * 2  # median 10, p90 50
    clip = clip_of(bundle(), *(measured(name, summarize(skewed), figure) for name in RUNS))
    assert clip["figure"] == "p50" and clip["total_ms"] == 50.0
    assert [program["ms"] for program in clip["programs"]] == [10.0] * 3
    assert clip["ms_per_frame"] == pytest.approx(50 / 6)


def test_means_are_added_up_where_one_runner_tells_no_more() -> None:
    times = [measured(name, {**summarize([1.0, 1.0, 7.0])}) for name in ("encoder", "unet")]
    clip = clip_of(bundle(), *times, measured("decoder", {"n": 20, "mean": 2.0}, "mean"))
    assert clip["figure"] == "mean" and [program["ms"] for program in clip["programs"]] == [3.0, 3.0, 2.0]
    assert clip["total_ms"] == 3.0 + 3.0 + 3 * 2.0


def test_an_emulated_program_leaves_no_figure() -> None:
    times = [measured(name, summarize([1.0])) for name in ("encoder", "unet")]
    clip = clip_of(bundle(), *times, measured("decoder", None))
    assert clip["emulated"] and clip["figure"] is clip["total_ms"] is clip["ms_per_frame"] is None
    assert {program["ms"] for program in clip["programs"]} == {None}


def test_the_frames_are_those_that_the_runs_give() -> None:
    times = [measured(name, summarize([5.0])) for name in RUNS]
    clip = clip_of(bundle(frames_per_clip=5), *times)
    assert clip["frames"] == 5 and clip["ms_per_frame"] == 25 / 5


@pytest.mark.parametrize("model", [ModelEntry(), ModelEntry(num_frames=0, fps=0), ModelEntry(fps=-7.0)])
def test_a_model_that_does_not_tell_its_rate_leaves_it_unknown(model: ModelEntry) -> None:
    clip = clip_of(bundle(manifest=SimpleNamespace(model=model)), *(measured(name, summarize([5.0])) for name in RUNS))
    assert clip["fps"] is None and clip["frames"] == 6 and clip["total_ms"] == 25.0


def test_which_bundle_it_is_of_is_told() -> None:
    clip = clip_of(bundle(precision="int8-static"), *(measured(name, summarize([5.0])) for name in RUNS))
    assert (clip["bundle"], clip["target"], clip["precision"]) == ("tiny", "executorch-xnnpack", "int8-static")


def test_a_part_of_the_path_is_no_clip() -> None:
    assert clip_latency(bundle(), [measured("unet", summarize([5.0]))]) is None
    assert clip_latency(bundle(runs_per_clip=None), [measured(name, summarize([5.0])) for name in RUNS]) is None
