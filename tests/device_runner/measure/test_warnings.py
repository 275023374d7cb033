"""Verdicts on made-up measurements whose faults are known."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any

import pytest

from device_runner.measure.measure import _lenient
from device_runner.measure.warnings import sustained_of, warnings_of
from device_runner.protocol.protocol import Protocol
from device_runner.protocol.statistics import summarize

CALM: dict[str, Any] = {
    "thermal_status": 0,
    "max_frequencies_khz": [1800000] * 4 + [2400000] * 4,
    "frequencies_khz": [300000] * 8,
    "governors": ["schedutil"] * 8,
    "temperatures_c": {"skin": 30.0, "CPU": 40.0},
    "battery_c": 28.0,
    "battery_percent": 80.0,
    "charging": True,
    "battery_saver": False,
    "awake": True,
    "load_average": [1.5, 1.0, 1.0],
}


def noisy_samples(n: int, ms: float, cv: float, seed: int = 0) -> list[float]:
    generator = random.Random(seed)
    return [ms * (1 + cv * generator.gauss(0, 1)) for _ in range(n)]


def starts(samples_ms: list[float]) -> list[float]:
    return [0.0, *accumulate(ms / 1000 for ms in samples_ms[:-1])]


def verdict(
    samples_ms: list[float],
    before: dict[str, Any] = CALM,
    after: dict[str, Any] = CALM,
    series: list[dict[str, Any]] | None = None,
    protocol: Protocol = Protocol(),  # noqa: B008
    **options: Any,
) -> list[str]:
    summary = summarize(samples_ms) if samples_ms else None
    return warnings_of(samples_ms, starts(samples_ms), before, after, series or [], protocol, summary, **options)


def kinds(warnings: list[str]) -> list[str]:
    return [warning.split(":")[0] for warning in warnings]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n", [20, 50])
def test_a_calm_measurement_has_no_warning(n: int, seed: int) -> None:
    assert verdict(noisy_samples(n, 100, 0.015, seed)) == []


def test_nothing_known_is_nothing_said() -> None:
    assert verdict([100.0] * 50, {}, {}) == []
    unknown = {key: None if not isinstance(value, (list, dict)) else type(value)() for key, value in CALM.items()}
    assert verdict([100.0] * 50, unknown, unknown, [unknown]) == []
    assert verdict([], unknown, unknown) == []
    assert verdict([100.0], unknown, unknown) == []


def test_a_screen_that_was_off_is_told() -> None:
    (warning,) = verdict([100.0] * 20, CALM | {"awake": False})
    assert warning.startswith("asleep: the screen was off") and "stayon" in warning


def test_a_thermal_status_that_rose_meanwhile_is_throttling_even_if_it_fell_again() -> None:
    (warning,) = verdict([100.0] * 20, series=[CALM, CALM | {"thermal_status": 2}, CALM])
    assert warning == "throttled: the system's thermal status was 2 (moderate), 0 at the start"


def test_a_device_that_was_throttled_from_the_start_says_so() -> None:
    hot = CALM | {"thermal_status": 3}
    assert verdict([100.0] * 20, hot, hot) == ["throttled: the system's thermal status was 3 (severe), from the start"]


def test_lowered_frequencies_are_throttling() -> None:
    capped = CALM | {"max_frequencies_khz": [1800000] * 4 + [2400000] * 3 + [1200000]}
    (warning,) = verdict([100.0] * 20, series=[capped])
    assert warning == "throttled: the highest frequency of 1 cores was lowered meanwhile (2400 -> 1200 MHz)"
    rounded = CALM | {"max_frequencies_khz": [1785000] * 4 + [2380000] * 4}
    assert verdict([100.0] * 20, after=rounded) == [], "a step of the table is no throttling"


def test_cores_that_were_switched_off_are_throttling() -> None:
    (warning,) = verdict([100.0] * 20, after=CALM | {"max_frequencies_khz": [1800000] * 4})
    assert warning == "throttled: cores were switched off meanwhile (8 at most, 4 at least)"


def test_a_drift_is_throttling_only_if_something_became_warmer() -> None:
    slowing = [100 + 15 * i / 49 for i in range(50)]
    warm = CALM | {"temperatures_c": {"skin": 30.5, "CPU": 52.0}}
    assert "throttled: the last quarter of the runs was 11 % slower" in verdict(slowing, after=warm)[0]
    assert verdict(slowing, after=warm)[0].endswith("while CPU became 12.0 C warmer")
    assert kinds(verdict(slowing)) == ["drifting", "noisy"]
    assert kinds(verdict(slowing[::-1], after=warm)) == ["noisy"], "becoming faster is no throttling"


def test_broad_noise_is_noise() -> None:
    (warning,) = verdict(noisy_samples(50, 100, 0.08, seed=3))
    assert warning.startswith("noisy: the middle 80 % of the runs lie between 8")


def test_one_stray_run_is_not_called_noise() -> None:
    """Its coefficient of variation is 35 %, but the median of the others stands."""
    samples = noisy_samples(49, 100, 0.01) + [350.0]
    random.Random(1).shuffle(samples)
    (warning,) = verdict(samples)
    assert warning.startswith("outliers: 1 of 50 runs took over 1.5 times the median")


def test_a_median_that_was_not_reached_well_enough_is_named() -> None:
    wanted = Protocol(confidence=0.02, max_iterations=60)
    warnings = verdict(noisy_samples(60, 100, 0.12, seed=5), protocol=wanted)
    assert kinds(warnings) == ["noisy", "unsure"]
    assert "at the limit of 60 runs" in warnings[1] and "+-2 % was asked for" in warnings[1]
    assert verdict(noisy_samples(60, 100, 0.02, seed=5), protocol=wanted) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"governors": ["powersave"] * 8}, "governor"),
        ({"battery_saver": True}, "battery saver"),
        ({"battery_percent": 14.0, "charging": False}, "battery"),
        ({"load_average": [6.0, 3.0, 2.0]}, "busy"),
    ],
)
def test_circumstances(change: dict[str, Any], kind: str) -> None:
    assert kinds(verdict([100.0] * 20, CALM | change)) == [kind]


@pytest.mark.parametrize(
    "change",
    [
        # intel_pstate's powersave runs at full speed under load.
        {"governors": ["powersave"] * 8, "frequencies_khz": [2390000] * 8},
        {"battery_percent": 14.0, "charging": True},
        {"load_average": [3.9, 8.0, 8.0]},
    ],
)
def test_harmless_circumstances(change: dict[str, Any]) -> None:
    assert verdict([100.0] * 20, CALM | change) == []


def test_the_load_counts_per_core_that_the_device_has() -> None:
    host = {"load_average": [1.5, 1.0, 1.0]}
    assert verdict([100.0] * 20, host, host) == [], "how many cores it has is not known"
    assert kinds(verdict([100.0] * 20, host, host, cores=2)) == ["busy"]
    assert verdict([100.0] * 20, host, host, cores=8) == []


def test_the_busy_warning_counts_the_cores_that_can_be_used() -> None:
    (warning,) = verdict([100.0] * 20, {"load_average": [1.5, 1, 1]}, {}, cores=2)
    assert warning.startswith("busy: before the start the load average was 1.50 on 2 cores")


@pytest.mark.parametrize(
    ("fields", "cores", "text"),
    [
        ({"threads": 4, "cpu_mask": "c0"}, 8, "crowded: 4 threads share the 2 cores of the mask c0"),
        ({"threads": 4}, 2, "crowded: 4 threads share the 2 cores that can be used"),
        ({"threads": 2, "cpu_mask": "c0"}, 1, None),
        ({"threads": 2}, 2, None),
        ({"threads": 64}, None, None),
    ],
)
def test_more_threads_than_cores_are_named(fields: dict[str, Any], cores: int | None, text: str | None) -> None:
    assert verdict([100.0] * 20, {}, {}, protocol=Protocol(**fields), cores=cores) == ([text] if text else [])


def runs_on(cores: float, n: int, taken: dict[int, float], seed: int = 0) -> tuple[list[float], list[float]]:
    """Wall and processor times of runs of 100 ms; `taken` is the share of the cores that others have, per run."""
    generator = random.Random(seed)
    cpu = [cores * 100 * (1 + 0.01 * generator.gauss(0, 1)) for _ in range(n)]
    free = [cores * (1 - taken.get(run, 0)) * (1 - abs(0.01 * generator.gauss(0, 1))) for run in range(n)]
    return [ms / share for ms, share in zip(cpu, free, strict=True)], cpu


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("cores", [0.98, 1.9, 3.6])
def test_undisturbed_runs_keep_their_cores(cores: float, seed: int) -> None:
    samples, cpu = runs_on(cores, 50, {}, seed)
    assert verdict(samples, cpu_ms=cpu) == []


def test_runs_that_others_take_the_cores_from_are_named() -> None:
    """In most runs: the median is that of the disturbed ones and no state before or after tells."""
    samples, cpu = runs_on(1.9, 50, {run: 0.4 for run in range(40)})
    warnings = verdict(samples, cpu_ms=cpu)
    assert kinds(warnings) == ["noisy", "disturbed"]
    assert warnings[1].startswith("disturbed: the runs kept 1.") and ", the best of them 1.8" in warnings[1]


def test_one_stray_run_is_no_disturbance() -> None:
    samples, cpu = runs_on(1.9, 50, {17: 0.7})
    assert kinds(verdict(samples, cpu_ms=cpu)) == ["outliers"]


def test_throttling_is_no_disturbance() -> None:
    """A lower frequency stretches processor time and wall time alike."""
    samples = [100.0] * 25 + [150.0] * 25
    assert "disturbed" not in kinds(verdict(samples, cpu_ms=[1.9 * ms for ms in samples]))


def test_a_program_that_waits_for_a_gpu_is_not_disturbed_by_waiting() -> None:
    samples = [100.0] * 50
    assert verdict(samples, cpu_ms=[30.0] * 10 + [10.0] * 40) == []
    assert verdict(samples, cpu_ms=[]) == []


def paused(samples_ms: list[float], pauses_s: dict[int, float]) -> list[str]:
    begin, now = [], 0.0
    for run, ms in enumerate(samples_ms):
        now += pauses_s.get(run, 0.00002)
        begin.append(now)
        now += ms / 1000
    begin = [start - begin[0] for start in begin]
    return warnings_of(samples_ms, begin, CALM, CALM, [], Protocol(), summarize(samples_ms))


def test_a_phone_that_sleeps_between_runs_is_named() -> None:
    (warning,) = paused([100.0] * 50, {10: 4.0, 30: 6.0})
    assert warning == (
        "paused: 10 of the 15 s that the runs took lie between them (the longest pause: 6 s); the device slept or did "
        "something else"
    )


def test_writing_events_between_runs_is_no_pause() -> None:
    assert paused([100.0] * 50, {10: 0.2}) == [], "4 % of the time"
    assert kinds(paused([100.0] * 50, {10: 0.3})) == ["paused"], "6 % of the time"
    assert paused([0.05] * 50, {}) == [], "20 us after each run of 50 us"
    assert paused([100.0], {}) == []


def phone_that_throttles(at_s: float, ms: float, slower: float, total_s: float, cv: float = 0.02) -> list[float]:
    generator, samples, now_s = random.Random(7), [], 0.0
    while now_s < total_s:
        factor = slower if now_s >= at_s else 1.0
        samples.append(ms * factor * (1 + cv * generator.gauss(0, 1)))
        now_s += samples[-1] / 1000
    return samples


@pytest.mark.parametrize(("ms", "within_s"), [(3.0, 1.0), (40.0, 1.0), (700.0, 3.0), (4000.0, 20.0)])
def test_the_throttling_point_is_found_for_short_and_long_runs(ms: float, within_s: float) -> None:
    samples = phone_that_throttles(at_s=171.0, ms=ms, slower=1.35, total_s=300)
    result = sustained_of(samples, starts(samples))
    assert result is not None
    assert result["first_minute_ms"] == pytest.approx(ms, rel=0.01)
    assert result["last_minute_ms"] == pytest.approx(1.35 * ms, rel=0.01)
    assert result["ratio"] == pytest.approx(1.35, rel=0.02)
    assert result["throttled_after_s"] == pytest.approx(171.0, abs=within_s)


def test_a_steady_phone_has_no_throttling_point() -> None:
    samples = phone_that_throttles(at_s=1e9, ms=50, slower=1, total_s=180, cv=0.06)
    result = sustained_of(samples, starts(samples))
    assert result is not None and result["throttled_after_s"] is None
    assert result["ratio"] == pytest.approx(1, abs=0.03)


def test_a_slow_spell_that_passes_is_no_throttling_point() -> None:
    samples = phone_that_throttles(at_s=1e9, ms=50, slower=1, total_s=180)
    samples[1500:1900] = [80.0] * 400
    result = sustained_of(samples, starts(samples))
    assert result is not None and result["throttled_after_s"] is None
    slow_at_the_end = samples[:-3] + [500.0] * 3
    result = sustained_of(slow_at_the_end, starts(slow_at_the_end))
    assert result is not None and result["throttled_after_s"] is None, "three slow runs are no window"


def test_throttling_less_than_a_tenth_has_no_point_but_shows_in_the_ratio() -> None:
    samples = phone_that_throttles(at_s=100, ms=50, slower=1.07, total_s=180)
    result = sustained_of(samples, starts(samples))
    assert result is not None and result["throttled_after_s"] is None
    assert result["ratio"] == pytest.approx(1.07, abs=0.01)


def test_without_two_minutes_there_is_no_first_against_last() -> None:
    samples = [1000.0] * 119
    assert sustained_of(samples, starts(samples)) is None
    assert sustained_of([], []) is None
    assert sustained_of([1.0, 2.0], []) is None
    assert sustained_of([1000.0] * 120, starts([1000.0] * 120)) is not None


def test_a_bundle_that_asks_little_of_its_outputs_is_told() -> None:
    """Its author's word is not the precision's: a random reference was accepted at 14.7 dB."""
    outputs = [{"name": "latents", "min_psnr_db": 14.7}, {"name": "frames", "min_psnr_db": 100.0}]
    assert _lenient("fp32", outputs) == ["lenient: of latents the bundle asks 14.7 dB; fp32 must reach 100"]
    assert _lenient("8da4w", [{"name": "latents", "min_psnr_db": 22.5}]) == []  # what low parity leaves for devices
    assert _lenient("unknown", outputs) == []
