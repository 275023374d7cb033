"""The rows' latencies: their figures with what makes them doubtful, and doubtful rows measured again, in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mobilevd.config.schema import RunConfig
from mobilevd.pipeline.export_and_measure import doubts_of, measure_entry
from mobilevd.pipeline.rows import Entry

ROUNDS = 2
"""Rounds in which doubtful rows are measured again: what a passing disturbance did is gone by then, and more rounds would
only find the same noise."""


def latency_figures(bench: dict[str, Any], key: str) -> dict[str, Any]:
    """`key` ("host_ms", "device_ms") of a measurement, and `key`_doubts where it has any."""
    doubts = doubts_of(bench["warnings"])
    return {key: bench["figure"]["ms"], **({f"{key}_doubts": doubts} if doubts else {})}


def measure_doubtful_again(
    config: RunConfig, measured: Sequence[tuple[Entry, dict[str, Any]]], on_round: Callable[[int, int], None]
) -> None:
    """Measure the rows whose host latency is doubtful again, in turns, and update them where that was calmer.

    Rows that were measured an hour apart differ in what else the machine did; in turns they share it. The calmest
    measurement of a row stays, that with the fewest doubts. `on_round` is told the round and how many rows it has.
    """
    for number in range(ROUNDS):
        doubtful = [(entry, row) for entry, row in measured if row.get("host_ms_doubts")]
        if not doubtful:
            return
        on_round(number, len(doubtful))
        for entry, row in doubtful:
            bench = measure_entry(config, entry, again=True)
            del row["host_ms_doubts"]
            row |= latency_figures(bench, "host_ms")
