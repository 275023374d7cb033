"""Tests whether one report, or several, are slower than others, from the raw samples of all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from device_runner.errors import RunnerError
from device_runner.protocol.correlation import effective_samples
from device_runner.protocol.statistics import percentile
from device_runner.results.comparable import check_comparable, remarks
from device_runner.results.pairing import Measured, pair_up, title
from device_runner.results.resampling import RESAMPLES, ratio_interval
from device_runner.results.runs import ASSUMED_SPREAD as SPREAD
from device_runner.results.runs import IfRunsVary, between_runs, widened
from device_runner.results.significance import mann_whitney_p, too_few
from device_runner.results.wording import bundle_title, protocol_title

THRESHOLD = 0.05
"""Relative change that counts; MLPerf calls a measurement repeatable if it repeats within 5 %."""
ALPHA = 0.01
REGRESSION, IMPROVEMENT, SAME, UNDECIDED, TOO_FEW = "regression", "improvement", "same", "undecided", "too few"
VERDICTS = (REGRESSION, IMPROVEMENT, SAME, UNDECIDED, TOO_FEW)


@dataclass(frozen=True)
class Pair:
    """One program of one bundle on one device, measured on both sides. Times are in milliseconds."""

    bundle: str
    """Name, target and precision of the first report's bundle; the fields `..._b` are those of the second."""
    bundle_b: str
    target: str
    target_b: str
    precision: str
    precision_b: str
    program: str
    device: str
    device_b: str
    protocol: str
    """Protocol's title; the two may differ in their names and time limits only."""
    protocol_b: str
    figure: str
    a_ms: float
    b_ms: float
    """The figures; of several runs, their geometric mean."""
    ratio: float
    """Ratio b / a; above 1 the second report is slower."""
    ratio_low: float | None
    ratio_high: float | None
    """Upper end of the interval of `ratio`, at confidence 1 - alpha; `ratio_low` is the lower end. None if too few samples
    allow none."""
    p_value: float | None
    """Two-sided p: of the Mann-Whitney test of the samples, or of Student's t test of several runs."""
    samples: tuple[int, int]
    effective_samples: tuple[float, float]
    """The number of independent samples that those of one run (the first) are worth."""
    runs: tuple[int, int]
    spread_between_runs: float | None
    """Standard deviation between runs of one side, as a share; None for one run a side."""
    if_runs_vary: IfRunsVary | None
    """For one run a side: what an assumed spread between runs would do to the verdict."""
    verdict: str
    """Outcome: `regression`, `improvement`, `same`, `undecided`, or `too few` (samples to tell anything)."""
    reason: str | None
    """Why there are too few."""
    remarks: tuple[str, ...]
    """Warnings of either side, and differences between them."""

    @property
    def builds(self) -> tuple[str, str]:
        """Titles that distinguish the two bundles from others of the same name."""
        a = {"name": self.bundle, "target": self.target, "precision": self.precision}
        b = {"name": self.bundle_b, "target": self.target_b, "precision": self.precision_b}
        return bundle_title(a), bundle_title(b)


@dataclass(frozen=True)
class Comparison:
    """All pairs of two sides, and the measurements without a counterpart."""

    pairs: tuple[Pair, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    threshold: float
    alpha: float

    @property
    def regressed(self) -> bool:
        """True if any pair became slower than the threshold allows."""
        return any(pair.verdict == REGRESSION for pair in self.pairs)

    @property
    def inconclusive(self) -> bool:
        """True if any pair has too few samples to tell anything."""
        return any(pair.verdict == TOO_FEW for pair in self.pairs)

    def to_json(self) -> dict[str, Any]:
        """The whole comparison, ready for `json.dump`."""
        told = {"regressed": self.regressed, "inconclusive": self.inconclusive}
        return {"kind": "mobilevd-comparison", "resamples": RESAMPLES, **told, **asdict(self)}


def compare(
    a: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    b: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    threshold: float = THRESHOLD,
    alpha: float = ALPHA,
    allow_different_devices: bool = False,
) -> Comparison:
    """Compare the reports `a` (before) and `b` (after), one or several runs of each, measurement by measurement.

    One run a side: a regression needs all three: the figure is more than `threshold` worse, the samples of the two runs
    are not from one distribution (two-sided Mann-Whitney, p < `alpha`), and the bootstrap interval of the figures' ratio
    lies above 1. An improvement is the same below 1. Any other pair is the same if the interval lies within
    1 +- `threshold`, else undecided: more samples, or a quieter device, would decide. Samples of one run follow one
    another, so test and interval go by the number of independent samples that they are worth (`effective_samples`);
    fewer than 5 a side, or so few that no p below `alpha` can be reached, are called too few, and get no interval.

    That shows that the two *runs* differ by more than chance among their own samples; it knows nothing of what differs
    between runs: heat, clocks, place in memory. `if_runs_vary` tells what a spread of 3 % between runs would leave of it.
    With several runs a side the spread is estimated, the interval and p are of the runs' figures (Student's t on their
    logarithms), and the rules are the same.

    Raises `RunnerError` if figures may not be compared: an emulated run, averages without samples, another method,
    runner, protocol, device or cores, nothing in common, runs of a side that do not match.
    """
    if not 0 < threshold < 1 or not 0 < alpha < 1:
        raise RunnerError(f"threshold and alpha must lie between 0 and 1, not {threshold!r} and {alpha!r}")
    sides = [[side] if isinstance(side, Mapping) else list(side) for side in (a, b)]
    if not all(sides):
        raise RunnerError("each side of a comparison needs a report")
    pairs, only_a, only_b = pair_up(sides[0][0], sides[1][0], allow_different_devices)
    for first, second in pairs:
        check_comparable(first, second)
    runs = [(_runs_of(first, sides[0]), _runs_of(second, sides[1])) for first, second in pairs]
    return Comparison(
        tuple(_compare(firsts, seconds, threshold, alpha) for firsts, seconds in runs),
        tuple(map(title, only_a)),
        tuple(map(title, only_b)),
        threshold,
        alpha,
    )


def _runs_of(measurement: Measured, reports: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """The measurement in every report of a side; the first report has it."""
    found = [measurement]
    for report in reports[1:]:
        pairs, _, _ = pair_up({"measurements": [measurement]}, report)
        check_comparable(measurement, pairs[0][1])
        found.append(pairs[0][1])
    return found


def _remarks_on_runs(*sides: Sequence[Measured]) -> Iterator[str]:
    """Warnings of the runs after the first, and a side of one run beside one of several."""
    for side, runs in zip("AB", sides, strict=True):
        for number, run in enumerate(runs[1:], start=2):
            yield from (f"{side}, run {number}: {warning}" for warning in run["warnings"])
    if min(map(len, sides)) < 2 <= max(map(len, sides)):
        one, other = "AB" if len(sides[0]) < 2 else "BA"
        yield f"{one} has one run, so its spread is unknown; that of {other} is taken for both"


def _compare(runs_a: list[Measured], runs_b: list[Measured], threshold: float, alpha: float) -> Pair:
    a, b = runs_a[0], runs_b[0]
    figure = a["figure"]["name"]
    p = float(figure.removeprefix("p"))
    figures = [[percentile(run["samples_ms"], p) for run in runs] for runs in (runs_a, runs_b)]
    samples_a, samples_b = a["samples_ms"], b["samples_ms"]
    counts = len(samples_a), len(samples_b)
    effective = effective_samples(samples_a), effective_samples(samples_b)
    a_ms, b_ms = _geometric_mean(figures[0]), _geometric_mean(figures[1])
    ratio, low, high, p_value, spread, if_vary, reason = b_ms / a_ms, None, None, None, None, None, None
    several = between_runs(figures[0], figures[1], alpha)
    if several is not None:
        low, high, p_value, spread = several.low, several.high, several.p_value, several.spread
    else:
        reason = too_few(effective, counts, alpha)
        if reason is None:
            low, high = ratio_interval(samples_a, samples_b, p, alpha, effective)
            p_value = mann_whitney_p(samples_a, samples_b, effective)
            wider = widened(ratio, min(low, ratio), max(high, ratio), alpha)
            if_vary = IfRunsVary(SPREAD, *wider, judge(ratio, *wider, p_value, threshold, alpha))
    if low is None or high is None or p_value is None:
        verdict = TOO_FEW
    else:
        verdict = judge(ratio, low, high, p_value, threshold, alpha)
    return Pair(
        bundle=a["bundle"]["name"],
        bundle_b=b["bundle"]["name"],
        target=a["bundle"]["target"],
        target_b=b["bundle"]["target"],
        precision=a["bundle"]["precision"],
        precision_b=b["bundle"]["precision"],
        program=a["program"],
        device=a["device"]["name"],
        device_b=b["device"]["name"],
        protocol=protocol_title(a["protocol"]),
        protocol_b=protocol_title(b["protocol"]),
        figure=figure,
        a_ms=a_ms,
        b_ms=b_ms,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        p_value=p_value,
        samples=counts,
        effective_samples=effective,
        runs=(len(runs_a), len(runs_b)),
        spread_between_runs=spread,
        if_runs_vary=if_vary,
        verdict=verdict,
        reason=reason,
        remarks=(*remarks(a, b), *_remarks_on_runs(runs_a, runs_b)),
    )


def _geometric_mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else math.exp(math.fsum(map(math.log, values)) / len(values))


def judge(ratio: float, low: float, high: float, p_value: float, threshold: float, alpha: float) -> str:
    """The outcome for a pair by the rules of `compare`."""
    if ratio > 1 + threshold and p_value < alpha and low > 1:
        return REGRESSION
    if ratio < 1 - threshold and p_value < alpha and high < 1:
        return IMPROVEMENT
    return SAME if 1 - threshold <= low and high <= 1 + threshold else UNDECIDED
