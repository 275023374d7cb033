"""Shows a comparison in the terminal: per device a table of 80 columns, with what its rows share told above it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from device_runner.results.naming import Named, numbered, remarks_by_text
from device_runner.results.terminal import cell, print_line, print_sections
from device_runner.results.wording import NOTHING, interval, milliseconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {REGRESSION: "bold red", IMPROVEMENT: "green", SAME: "", UNDECIDED: "yellow", TOO_FEW: "bold yellow"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a table per device with one row per pair, then remarks, unpaired measurements, and the outcome."""
    devices: dict[tuple[str, str], list[Pair]] = {}
    for pair in comparison.pairs:
        shared = _both(pair.device, pair.device_b), f"{_both(pair.protocol, pair.protocol_b)}; {pair.figure}"
        devices.setdefault(shared, []).append(pair)
    marks = numbered(_named(pair).bundle for pair in comparison.pairs)
    heads = ("program", "A\nms", "B\nms", "B / A", f"{100 * (1 - comparison.alpha):g} %\ninterval", "p", "verdict")
    for (device, protocol), pairs in devices.items():
        print_line(console, device, "bold")
        print_line(console, protocol, "dim")
        sections: dict[Sequence[str], list[list[Text]]] = {}
        for pair in pairs:
            mark = marks[_named(pair).bundle]
            lines = tuple(f"{mark} {line}".lstrip() for line in _bundle_lines(*pair.builds))
            sections.setdefault(lines, []).append(_row(pair))
        print_sections(console, heads, sections, words_last=True)
        console.print()
    for text, style in _lines(comparison):
        print_line(console, text, style)


def _named(pair: Pair) -> Named:
    return Named(pair.program, _both(*pair.builds), _both(pair.device, pair.device_b))


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one} -> {other}"


def _bundle_lines(a: str, b: str) -> Sequence[str]:
    return [a] if a == b else [f"A: {a}", f"B: {b}"]


def _row(pair: Pair) -> list[Text]:
    cells = (
        pair.program,
        milliseconds(pair.a_ms),
        milliseconds(pair.b_ms),
        f"{pair.ratio:.3f}",
        interval(pair.ratio_low, pair.ratio_high),
        NOTHING if pair.p_value is None else f"{pair.p_value:.2g}" if pair.p_value >= 1e-4 else "<0.0001",
    )
    return [*map(cell, cells), cell(pair.verdict, STYLES[pair.verdict])]


def _lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """The lines below the tables with their styles: each remark once, with the rows that it is about."""
    pairs = comparison.pairs
    shown = [_named(pair) for pair in pairs]

    def remarks(texts: Iterator[tuple[Pair, str]]) -> Iterator[tuple[str, str]]:
        told = remarks_by_text(((_named(pair), text) for pair, text in texts), shown)
        return ((names, text) for text, names in told.items())

    for names, text in remarks((pair, text) for pair in pairs for text in pair.remarks):
        yield f"! {names}{text}", "yellow"
    for names, text in remarks((pair, pair.reason) for pair in pairs if pair.reason is not None):
        yield f"{names}nothing can be told: {text}; measure more runs, or longer ones", "bold yellow"
    for names, text in remarks((pair, text) for pair in pairs for text in _spread(pair)):
        yield f"{names}{text}", ""
    for spread in sorted({pair.if_runs_vary.spread for pair in pairs if pair.if_runs_vary}):
        yield f"one run a side; if runs differ by {100 * spread:g} % (one deviation), the interval is", ""
        for names, text in remarks((pair, text) for pair in pairs for text in _if_runs_vary(pair, spread)):
            yield f"- {names}{text}", ""
    for side, names in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        for name in names:
            yield f"only in {side}, not compared: {name}", "yellow"
    if any(pair.if_runs_vary for pair in pairs):
        yield "the spread between runs is not known from one a side: --baseline A... --candidate B... tells it", ""
    counts = [(verdict, sum(pair.verdict == verdict for pair in pairs)) for verdict in VERDICTS]
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    figures = "/".join(sorted({pair.figure for pair in pairs}))
    yield (
        f"{told}; {figures}, threshold {100 * comparison.threshold:g} %, alpha {comparison.alpha:g}",
        "bold",
    )


def _spread(pair: Pair) -> Iterator[str]:
    if pair.spread_between_runs is not None:
        runs = " and ".join(map(str, pair.runs))
        yield f"{runs} runs, which differ by {100 * pair.spread_between_runs:.1f} % (one deviation)"


def _if_runs_vary(pair: Pair, spread: float) -> Iterator[str]:
    vary = pair.if_runs_vary
    if vary is not None and vary.spread == spread:
        yield f"{interval(vary.low, vary.high)} and the verdict {vary.verdict}"
