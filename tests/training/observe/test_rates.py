"""Rates by a clock that the test moves, and the line that a log file gets."""

import pytest
import torch

from tests.training.observe.reports import report
from training.observe.line import describe_report, describe_time, describe_validation
from training.observe.throughput import HALF_LIFE_S, Meter, peak_tflops


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_of_steady_steps() -> None:
    clock = Clock()
    meter = Meter(1000, 2000, clips_per_step=32, flops_per_step=50e12, peak_tflops=100, clock=clock)
    for step in (1010, 1020):
        clock.now += 20
        rates = meter.read(step)
    assert rates.clips_per_s == pytest.approx(16) and rates.seconds_per_step == pytest.approx(2)
    assert rates.tflops == pytest.approx(25) and rates.mfu == pytest.approx(0.25)
    assert rates.seconds_left == pytest.approx(980 * 2)


def test_validations_are_no_steps_but_take_their_share_of_what_is_left() -> None:
    clock = Clock()
    meter = Meter(0, 100, clips_per_step=1, clock=clock)
    clock.now += 10
    with meter.paused():
        clock.now += 5
    rates = meter.read(10)
    assert rates.seconds_per_step == pytest.approx(1)
    assert rates.seconds_left == pytest.approx(90 * 1.5)
    assert rates.tflops is None and rates.mfu is None


def test_a_lasting_change_shows_and_a_slow_step_hardly() -> None:
    clock = Clock()
    meter = Meter(0, 10_000, clips_per_step=1, clock=clock)
    for step in range(1, 601):
        clock.now += 1
        meter.read(step)
    clock.now += 11
    assert 1 < meter.read(601).seconds_per_step < 1.1
    for step in range(602, 602 + int(4 * HALF_LIFE_S / 2)):
        clock.now += 2
        rates = meter.read(step)
    assert rates.seconds_per_step == pytest.approx(2, rel=0.1)


def test_a_cpu_has_no_peak() -> None:
    assert peak_tflops(torch.device("cpu"), "bf16") is None


def test_the_line_of_a_log_file() -> None:
    line = describe_report(report(mfu=0.412, tflops=128.0))
    assert line == "loss 0.412, 12.3 clips/s, MFU 41 %, 23.1 GB, 3 h 20 min left"
    assert describe_report(report(memory_mb=812.4, tflops=0.0123, seconds_left=44.6)) == (
        "loss 0.412, 12.3 clips/s, 0.0123 TFLOP/s, 812 MB, 45 s left"
    )
    many = report(figures={"loss_g": -0.5, "loss_d": 1.25, "r1": 1e-5, "accuracy/spatial.0": 0.7})
    assert describe_report(many).startswith("loss_g -0.500, loss_d 1.25, r1 1.0e-05, 12.3 clips/s")
    short = describe_report(many, width=60)
    assert len(short) <= 60 and short.startswith("loss_g -0.500, 12.3 clips/s") and "loss_d" not in short


def test_the_line_of_a_validation() -> None:
    figures = {"distance": 41.23, "distance_low": 38.0, "distance_high": 44.5, "motion_ratio": 0.93}
    assert describe_validation(500, figures) == (
        "validation after step 500: distance 41.2 (38.0 to 44.5), motion ratio 0.930"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "1 h 0 min"), (86400 * 2 + 3600 * 4.5, "2 d 4 h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert describe_time(seconds) == text
