"""Shows a comparison in the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from device_runner.results.compare import (
    IMPROVEMENT,
    REGRESSION,
    SAME,
    TOO_FEW,
    UNDECIDED,
    VERDICTS,
    Comparison,
    Pair,
)
from device_runner.results.terminal import cell, new_table, print_line
from device_runner.results.wording import NOTHING, milliseconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES = {REGRESSION: "bold red", IMPROVEMENT: "green", SAME: "", UNDECIDED: "yellow", TOO_FEW: "bold yellow"}


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
            _interval(pair.ratio_low, pair.ratio_high),
            NOTHING if pair.p_value is None else f"{pair.p_value:.2g}" if pair.p_value >= 1e-4 else "<0.0001",
        )
        table.add_row(*map(cell, cells), cell(pair.verdict, STYLES[pair.verdict]))
    return table


def _interval(low: float | None, high: float | None) -> str:
    return NOTHING if low is None or high is None else f"{low:.2f}-{high:.2f}"


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one} -> {other}"


def _lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for pair in comparison.pairs:
        what = f"{pair.program} of {_both(*pair.builds)} on {_both(pair.device, pair.device_b)}"
        for remark in pair.remarks:
            yield f"! {what}: {remark}", "yellow"
        if pair.reason is not None:
            yield f"{what}: nothing can be told: {pair.reason}; measure more runs, or longer ones", "bold yellow"
        if pair.spread_between_runs is not None:
            runs = " and ".join(map(str, pair.runs))
            yield f"{what}: {runs} runs, which differ by {100 * pair.spread_between_runs:.1f} % (one deviation)", ""
        if (vary := pair.if_runs_vary) is not None:
            yield (
                f"{what}: one run a side; if runs differ by {100 * vary.spread:g} % (one deviation), the interval is "
                f"{_interval(vary.low, vary.high)} and the verdict {vary.verdict}",
                "",
            )
    for side, names in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        for name in names:
            yield f"only in {side}, not compared: {name}", "yellow"
    if any(pair.if_runs_vary for pair in comparison.pairs):
        yield "the spread between runs is not known from one a side: --baseline A... --candidate B... tells it", ""
    counts = [(verdict, sum(pair.verdict == verdict for pair in comparison.pairs)) for verdict in VERDICTS]
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    figures = "/".join(sorted({pair.figure for pair in comparison.pairs}))
    yield (
        f"{told}; {figures}, threshold {100 * comparison.threshold:g} %, alpha {comparison.alpha:g}",
        "bold red" if comparison.regressed else "bold",
    )
