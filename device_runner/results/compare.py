"""Tests whether one report is slower than another, from the raw samples of both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from device_runner.errors import RunnerError
from device_runner.protocol.statistics import percentile
from device_runner.results.comparable import check_comparable, remarks
from device_runner.results.pairing import pair_up, title
from device_runner.results.resampling import RESAMPLES, ratio_interval
from device_runner.results.terminal import cell, new_table, print_line
from device_runner.results.wording import bundle_title, milliseconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

THRESHOLD = 0.05
"""Relative change that counts; MLPerf calls a measurement repeatable if it repeats within 5 %."""
ALPHA = 0.01
REGRESSION, IMPROVEMENT, SAME, UNDECIDED = "regression", "improvement", "same", "undecided"
_STYLES = {REGRESSION: "bold red", IMPROVEMENT: "green", SAME: "", UNDECIDED: "yellow"}


@dataclass(frozen=True)
class Pair:
    """One program of one bundle on one device, measured twice. Times are in milliseconds."""

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
    figure: str
    a_ms: float
    b_ms: float
    ratio: float
    """Ratio b / a; above 1 the second report is slower."""
    ratio_low: float
    ratio_high: float
    """Upper end of the bootstrap interval of `ratio`, at confidence 1 - alpha; `ratio_low` is the lower end."""
    p_value: float
    """p of the two-sided Mann-Whitney test."""
    samples: tuple[int, int]
    verdict: str
    """Outcome: `regression`, `improvement`, `same` or `undecided`."""
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
    """All pairs of two reports, and the measurements without a counterpart."""

    pairs: tuple[Pair, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    threshold: float
    alpha: float

    @property
    def regressed(self) -> bool:
        """True if any pair became slower than the threshold allows."""
        return any(pair.verdict == REGRESSION for pair in self.pairs)

    def to_json(self) -> dict[str, Any]:
        """The whole comparison, ready for `json.dump`."""
        return {"kind": "mobilevd-comparison", "resamples": RESAMPLES, "regressed": self.regressed, **asdict(self)}


def compare(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    threshold: float = THRESHOLD,
    alpha: float = ALPHA,
    allow_different_devices: bool = False,
) -> Comparison:
    """Compare the reports `a` (before) and `b` (after), measurement by measurement.

    A regression needs all three: the figure is more than `threshold` worse, the samples of the two runs are not from
    one distribution (two-sided Mann-Whitney, p < `alpha`), and the bootstrap interval of the figures' ratio lies above
    1. An improvement is the same below 1. Any other pair is the same if the interval lies within 1 +- `threshold`, else
    undecided: more samples, or a quieter device, would decide.

    This shows that the two *runs* differ by more than chance among their own samples. Samples of one run follow one
    another on one device at one temperature, so they are not independent, and the test knows nothing of what differs
    between runs: heat, clocks, other work. Of equal programs, 20 samples with 10 % noise each, 1 in 1000 is called a
    regression if samples are independent, 1 in 11 if neighbours correlate by 0.7 (a remark then says so). A difference
    that matters is worth a second pair of files.

    Raises `RunnerError` if figures may not be compared: an emulated run, averages without samples, another method,
    runner, protocol, device or cores, nothing in common.
    """
    if not 0 < threshold < 1 or not 0 < alpha < 1:
        raise RunnerError(f"threshold and alpha must lie between 0 and 1, not {threshold!r} and {alpha!r}")
    pairs, only_a, only_b = pair_up(a, b, allow_different_devices)
    for first, second in pairs:
        check_comparable(first, second)
    return Comparison(
        tuple(_compare(first, second, threshold, alpha) for first, second in pairs),
        tuple(map(title, only_a)),
        tuple(map(title, only_b)),
        threshold,
        alpha,
    )


def _compare(a: Mapping[str, Any], b: Mapping[str, Any], threshold: float, alpha: float) -> Pair:
    figure = a["figure"]["name"]
    samples_a, samples_b, p = a["samples_ms"], b["samples_ms"], float(figure.removeprefix("p"))
    a_ms, b_ms = percentile(samples_a, p), percentile(samples_b, p)
    low, high = ratio_interval(samples_a, samples_b, p, alpha)
    p_value = _mann_whitney(samples_a, samples_b)
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
        figure=figure,
        a_ms=a_ms,
        b_ms=b_ms,
        ratio=b_ms / a_ms,
        ratio_low=low,
        ratio_high=high,
        p_value=p_value,
        samples=(len(samples_a), len(samples_b)),
        verdict=judge(b_ms / a_ms, low, high, p_value, threshold, alpha),
        remarks=tuple(remarks(a, b)),
    )


def judge(ratio: float, low: float, high: float, p_value: float, threshold: float, alpha: float) -> str:
    """The outcome for a pair by the rules of `compare`."""
    if ratio > 1 + threshold and p_value < alpha and low > 1:
        return REGRESSION
    if ratio < 1 - threshold and p_value < alpha and high < 1:
        return IMPROVEMENT
    return SAME if 1 - threshold <= low and high <= 1 + threshold else UNDECIDED


def _mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p: exact for few samples without ties, else by the normal approximation with correction for ties."""
    from scipy.stats import mannwhitneyu

    if min(a) == max(a) == min(b) == max(b):
        return 1.0  # all equal: the approximation's variance is 0
    return float(mannwhitneyu(a, b, alternative="two-sided").pvalue)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a table per device with one row per pair, then remarks, unpaired measurements, and the outcome."""
    devices: dict[str, list[Pair]] = {}
    for pair in comparison.pairs:
        devices.setdefault(_both(pair.device, pair.device_b), []).append(pair)
    shared = _shared_names(comparison.pairs)
    for device, pairs in devices.items():
        print_line(console, device, "bold")
        console.print(_table(pairs, comparison.alpha, shared))
        console.print()
    for text, style in _lines(comparison):
        print_line(console, text, style)


def _shared_names(pairs: Sequence[Pair]) -> set[str]:
    """Names of bundles that stand for more than one build."""
    builds = {build for pair in pairs for build in zip((pair.bundle, pair.bundle_b), pair.builds, strict=True)}
    names = [name for name, _ in builds]
    return {name for name in names if names.count(name) > 1}


def _table(pairs: Sequence[Pair], alpha: float, shared: Collection[str]) -> Table:
    table = new_table()
    table.add_column("bundle", overflow="fold")
    table.add_column("program", overflow="fold")
    for name in ("A\nms", "B\nms", "B / A", f"{100 * (1 - alpha):g} %\ninterval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for pair in pairs:
        names = zip((pair.bundle, pair.bundle_b), pair.builds, strict=True)
        cells = (
            _both(*(build if name in shared else name for name, build in names)),
            pair.program,
            milliseconds(pair.a_ms),
            milliseconds(pair.b_ms),
            f"{pair.ratio:.3f}",
            f"{pair.ratio_low:.2f}-{pair.ratio_high:.2f}",
            f"{pair.p_value:.2g}" if pair.p_value >= 1e-4 else "<0.0001",
        )
        table.add_row(*map(cell, cells), cell(pair.verdict, _STYLES[pair.verdict]))
    return table


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one} -> {other}"


def _lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for pair in comparison.pairs:
        what = f"{pair.program} of {_both(*pair.builds)} on {_both(pair.device, pair.device_b)}"
        for remark in pair.remarks:
            yield f"! {what}: {remark}", "yellow"
    for side, names in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        for name in names:
            yield f"only in {side}, not compared: {name}", "yellow"
    counts = [(verdict, sum(pair.verdict == verdict for pair in comparison.pairs)) for verdict in _STYLES]
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    figures = "/".join(sorted({pair.figure for pair in comparison.pairs}))
    yield (
        f"{told}; {figures}, threshold {100 * comparison.threshold:g} %, alpha {comparison.alpha:g}",
        "bold red" if comparison.regressed else "bold",
    )
