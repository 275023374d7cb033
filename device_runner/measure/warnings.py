"""Warnings where a measurement misleads: throttled, noisy, disturbed; and the change of speed over minutes."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from device_runner.measure.cooling import THERMAL_STATUS
from device_runner.protocol.protocol import Protocol
from device_runner.protocol.statistics import percentile

State = Mapping[str, Any]

NOISY_SPREAD = 0.10
"""(p90 - p10) / p50 above which a measurement is noisy; for normal noise this is a coefficient of variation of 4 %."""
OUTLIER_CV = 0.05
"""Coefficient of variation that, without such a spread, comes from a few very slow runs."""
DRIFT = 1.05
"""Ratio of the medians of the last and the first quarter; with 3 % noise, chance gives 50 runs a deviation of 1.5 %."""
WARMER_C = 2.0
"""Rise of a temperature from which a drift is throttling rather than noise; sensors flicker by about a degree."""
LOWERED = 0.95
"""Share of the highest allowed frequency below which it was lowered; systems round it to steps of their tables."""
LOW_BATTERY_PERCENT = 20.0
"""Charge below which phones slow down: near 15 % Android offers or starts its battery saver, and some makers lower the
frequencies before."""
BUSY_LOAD_PER_CORE = 0.5
LOST_SHARE = 0.90
"""Share of the best runs' processor time per wall time below which the runs together were disturbed. A falling
frequency stretches both times alike; waiting for a core that others hold lowers the ratio. In calm runs it differs by
about 1 %."""
BEST_PERCENTILE = 90
"""Percentile of the runs' ratios of processor time to wall time: the cores that the program uses undisturbed. A maximum
would be a single stray tick."""
LEAST_CORES = 0.5
"""Number of busy cores below which a program mostly waits for another processor, so that waiting says nothing."""
GAP_S, GAP_SHARE = 0.001, 0.05
"""Gap that counts as a pause: between two runs one event is written, some 10 us. And the share of all the time above
which pauses matter: they count for `min_seconds`, and the device cools and clocks down in them."""
SLOWER = 1.10
"""Ratio of the rolling median to the first minute's median from which the device counts as throttled."""
ROLLING_S, ROLLING_RUNS = 5.0, 10


def warnings_of(
    samples_ms: Sequence[float],
    starts_s: Sequence[float],
    state_before: State,
    state_after: State,
    series: Sequence[State],
    protocol: Protocol,
    summary: Mapping[str, float] | None,
    *,
    cores: int | None = None,
    cpu_ms: Sequence[float] = (),
) -> list[str]:
    """Everything a reader must know before trusting the figures, one line each; empty for a calm measurement.

    `samples_ms` may be empty (averages only, emulated); then only the states are checked. `cores` is the number of
    usable cores, for the load average and the threads; if None, the load is checked against the cores that report a
    frequency. `cpu_ms` is the processor time of each run, empty if not known.
    """
    states = [state_before, *series, state_after]
    warnings = [*_throttling(states), *_drift(samples_ms, starts_s, states), *_noise(samples_ms, summary)]
    warnings += [*_disturbance(samples_ms, cpu_ms), *_pauses(samples_ms, starts_s), *_crowding(protocol, cores)]
    return [*warnings, *_unsure(protocol, summary), *_circumstances(state_before, cores)]


def sustained_of(samples_ms: Sequence[float], starts_s: Sequence[float]) -> dict[str, float | None] | None:
    """The change of speed over a long measurement: `first_minute_ms` and `last_minute_ms` (medians of the runs that
    started in them), `ratio` (last over first), `throttled_after_s`; None for runs that went on for less than two
    minutes.

    `throttled_after_s` is the start of the first run from which the rolling median stays, to the end, more than 10 %
    above the first minute's median; None if there is no such run, so a slow spell that passes is no throttling. The
    rolling median at a run is that of the 5 s around it, or of the 10 runs around it if these take longer.
    """
    if len(samples_ms) != len(starts_s) or not samples_ms:
        return None
    end_s = starts_s[-1] + samples_ms[-1] / 1000
    if end_s < 120:
        return None
    first = _median([ms for ms, start in zip(samples_ms, starts_s, strict=True) if start < 60])
    last = _median([ms for ms, start in zip(samples_ms, starts_s, strict=True) if start >= end_s - 60])
    last = _median(samples_ms[-1:]) if last is None else last
    if first is None or last is None:
        return None
    throttled = None
    for run, median in _rolling_medians(samples_ms, starts_s):
        if median <= SLOWER * first:
            break
        throttled = starts_s[run]
    return {"first_minute_ms": first, "last_minute_ms": last, "ratio": last / first, "throttled_after_s": throttled}


def _rolling_medians(samples_ms: Sequence[float], starts_s: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Index of the run in the middle of a window and the window's median, from the end backwards.

    Only full windows count, so that a single slow last run does not decide.
    """
    begin = len(samples_ms) - 1
    while begin >= 0:
        end = max(bisect.bisect_left(starts_s, starts_s[begin] + ROLLING_S), begin + ROLLING_RUNS)
        full = end <= len(samples_ms) and starts_s[begin] + ROLLING_S <= starts_s[-1] + samples_ms[-1] / 1000
        if full:
            yield (begin + end) // 2, percentile(samples_ms[begin:end], 50)
        # Runs of a millisecond make windows of thousands; steps of a twentieth of a window are fine enough.
        begin -= max(1, (end - begin) // 20) if full else 1


def _throttling(states: Sequence[State]) -> Iterator[str]:
    statuses = [state["thermal_status"] for state in states if state.get("thermal_status") is not None]
    if statuses and max(statuses) > 0:
        worst = max(statuses)
        began = f"{statuses[0]} at the start" if statuses[0] != worst else "from the start"
        yield f"throttled: the system's thermal status was {worst} ({THERMAL_STATUS[worst]}), {began}"
    allowed = [state["max_frequencies_khz"] for state in states if state.get("max_frequencies_khz")]
    if not allowed:
        return
    if any(len(of_cores) != len(allowed[0]) for of_cores in allowed):
        counts = [len(of_cores) for of_cores in allowed]
        yield f"throttled: cores were switched off meanwhile ({max(counts)} at most, {min(counts)} at least)"
        return
    lowest = [min(of_core) for of_core in zip(*allowed, strict=True)]
    lowered = [core for core, khz in enumerate(lowest) if khz < LOWERED * allowed[0][core]]
    if lowered:
        core = min(lowered, key=lambda core: lowest[core] / allowed[0][core])
        yield (
            f"throttled: the highest frequency of {len(lowered)} cores was lowered meanwhile "
            f"({allowed[0][core] / 1000:.0f} -> {lowest[core] / 1000:.0f} MHz)"
        )


def _drift(samples_ms: Sequence[float], starts_s: Sequence[float], states: Sequence[State]) -> Iterator[str]:
    quarter = len(samples_ms) // 4
    if quarter < 3:
        return
    ratio = percentile(samples_ms[-quarter:], 50) / max(percentile(samples_ms[:quarter], 50), 1e-9)
    if ratio < DRIFT:
        return
    slower = f"the last quarter of the runs was {100 * (ratio - 1):.0f} % slower than the first"
    if len(starts_s) == len(samples_ms):
        slower += f" ({starts_s[-1]:.0f} s later)"
    rise = _rise(states)
    if rise is None:
        yield f"drifting: {slower}"
    else:
        yield f"throttled: {slower} while {rise}"


def _rise(states: Sequence[State]) -> str | None:
    """The sensor whose temperature rose most since the first state, in words; None if none rose by `WARMER_C`."""
    rises: dict[str, float] = {}
    for state in states[1:]:
        for name, celsius in _temperatures(state).items():
            if name in (before := _temperatures(states[0])):
                rises[name] = max(rises.get(name, 0.0), celsius - before[name])
    name = max(rises, key=lambda name: rises[name], default="")
    return f"{name} became {rises[name]:.1f} C warmer" if name and rises[name] >= WARMER_C else None


def _temperatures(state: State) -> dict[str, float]:
    battery = {} if state.get("battery_c") is None else {"the battery": state["battery_c"]}
    return {**(state.get("temperatures_c") or {}), **battery}


def _noise(samples_ms: Sequence[float], summary: Mapping[str, float] | None) -> Iterator[str]:
    """Warn by the spread of the middle 80 %: the coefficient of variation alone would call one stray run among fifty (a
    garbage collection, a notification) noise, although it moves neither the median nor p90."""
    if len(samples_ms) < 5 or not summary:
        return
    p10, p50, p90 = (percentile(samples_ms, p) for p in (10, 50, 90))
    if p50 <= 0:
        return
    cv = summary["std"] / summary["mean"]
    if (p90 - p10) / p50 > NOISY_SPREAD:
        yield (
            f"noisy: the middle 80 % of the runs lie between {p10:.3g} and {p90:.3g} ms, {100 * (p90 - p10) / p50:.0f} "
            f"% of the median (coefficient of variation {100 * cv:.1f} %)"
        )
    elif cv > OUTLIER_CV:
        strays = sum(sample > 1.5 * p50 for sample in samples_ms)
        what = f"{strays} of {len(samples_ms)} runs took over 1.5 times the median" if strays else "few runs were slow"
        yield f"outliers: {what} (coefficient of variation {100 * cv:.1f} %); the median is sound, mean and p99 are not"


def _disturbance(samples_ms: Sequence[float], cpu_ms: Sequence[float]) -> Iterator[str]:
    """Warn of other programs that took the cores away from some of the runs, which no state before or after shows."""
    if len(samples_ms) < 5 or len(cpu_ms) != len(samples_ms) or min(samples_ms) <= 0:
        return
    best = percentile([cpu / ms for cpu, ms in zip(cpu_ms, samples_ms, strict=True)], BEST_PERCENTILE)
    whole = sum(cpu_ms) / sum(samples_ms)
    if best >= LEAST_CORES and whole < LOST_SHARE * best:
        yield (
            f"disturbed: the runs kept {whole:.2f} cores busy, the best of them {best:.2f}; other programs took the cores "
            "from the rest"
        )


def _pauses(samples_ms: Sequence[float], starts_s: Sequence[float]) -> Iterator[str]:
    if len(samples_ms) != len(starts_s) or len(starts_s) < 2:
        return
    ends_s = [start + ms / 1000 for start, ms in zip(starts_s, samples_ms, strict=True)]
    gaps_s = [start - end for start, end in zip(starts_s[1:], ends_s[:-1], strict=True)]
    paused_s, whole_s = sum(gap for gap in gaps_s if gap > GAP_S), ends_s[-1] - starts_s[0]
    if paused_s > GAP_SHARE * whole_s:
        yield (
            f"paused: {paused_s:.3g} of the {whole_s:.3g} s that the runs took lie between them (the longest pause: "
            f"{max(gaps_s):.3g} s); the device slept or did something else"
        )


def _crowding(protocol: Protocol, cores: int | None) -> Iterator[str]:
    if protocol.cpu_mask is not None:
        mask_cores = int(protocol.cpu_mask, 16).bit_count()
        if protocol.threads > mask_cores:
            yield f"crowded: {protocol.threads} threads share the {mask_cores} cores of the mask {protocol.cpu_mask}"
    elif cores and protocol.threads > cores:
        yield f"crowded: {protocol.threads} threads share the {cores} cores that can be used"


def _unsure(protocol: Protocol, summary: Mapping[str, float] | None) -> Iterator[str]:
    if protocol.confidence is None or not summary or not {"median_ci_low", "median_ci_high"} <= set(summary):
        return
    half = (summary["median_ci_high"] - summary["median_ci_low"]) / 2 / summary["p50"] if summary["p50"] else 0.0
    if half > protocol.confidence:
        yield (
            f"unsure: at the limit of {summary['n']:.0f} runs the median is known to +-{100 * half:.1f} % only, "
            f"+-{100 * protocol.confidence:g} % was asked for"
        )


def _circumstances(before: State, cores: int | None) -> Iterator[str]:
    slow = [governor for governor in before.get("governors") or [] if governor == "powersave"]
    # intel_pstate's powersave scales with the load, so it matters only where it holds the cores down.
    frequencies, allowed = before.get("frequencies_khz") or [], before.get("max_frequencies_khz") or []
    if slow and not (frequencies and allowed and max(frequencies) > 0.8 * max(allowed)):
        yield f"governor: {len(slow)} cores are under `powersave`, so they may be held at a low frequency"
    if before.get("battery_saver"):
        yield "battery saver: it is on, and lowers the processor's speed"
    if before.get("awake") is False:
        yield (
            "asleep: the screen was off, and phones then lower frequencies, park cores or suspend; keep it on "
            "(adb shell svc power stayon usb)"
        )
    percent = before.get("battery_percent")
    if percent is not None and percent < LOW_BATTERY_PERCENT and not before.get("charging"):
        yield f"battery: {percent:.0f} % left, phones slow down near empty; charge it above {LOW_BATTERY_PERCENT:.0f} %"
    load = before.get("load_average") or []
    cores = cores or len(before.get("max_frequencies_khz") or [])
    if load and cores and load[0] / cores > BUSY_LOAD_PER_CORE:
        yield f"busy: before the start the load average was {load[0]:.2f} on {cores} cores; other programs were running"


def _median(samples: Sequence[float]) -> float | None:
    return percentile(samples, 50) if samples else None
