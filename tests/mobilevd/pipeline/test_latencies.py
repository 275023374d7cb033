"""Rows whose latency is doubtful are measured again in turns, and keep their mark only if it is doubtful still."""

from __future__ import annotations

from typing import Any

import pytest

from mobilevd.pipeline import latencies
from mobilevd.pipeline.latencies import latency_figures, measure_doubtful_again

NOISY, STRAYS = "noisy: the middle 80 % of the runs", "outliers: 1 of 50 runs"
OWN_LOAD = "busy: before the start the load average was 2"


def bench(ms: float, *warnings: str) -> dict[str, Any]:
    return {"figure": {"name": "p50", "ms": ms}, "warnings": list(warnings)}


def test_a_figure_bears_its_doubts_and_a_sound_median_none() -> None:
    assert latency_figures(bench(7.5), "host_ms") == {"host_ms": 7.5}
    assert latency_figures(bench(7.5, STRAYS, OWN_LOAD), "host_ms") == {"host_ms": 7.5}
    assert latency_figures(bench(7.5, NOISY, STRAYS), "device_ms") == {"device_ms": 7.5, "device_ms_doubts": [NOISY]}


def test_doubtful_rows_alone_are_measured_again_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"a": [bench(9.0, NOISY), bench(7.0)], "c": [bench(8.0), bench(0.0)]}
    asked: list[str] = []

    def measure(config: Any, entry: Any, again: bool = False) -> dict[str, Any]:
        assert again
        asked.append(entry)
        return answers[entry].pop(0)

    monkeypatch.setattr(latencies, "measure_entry", measure)
    rows = [
        {"host_ms": 11.7, "host_ms_doubts": [NOISY]},
        {"host_ms": 7.7},
        {"host_ms": 8.5, "host_ms_doubts": [NOISY]},
    ]
    measured: Any = list(zip("abc", rows, strict=True))
    told: list[tuple[int, int]] = []
    measure_doubtful_again(Any, measured, lambda number, count: told.append((number, count)))  # type: ignore[arg-type]
    assert asked == ["a", "c", "a"] and told == [(0, 2), (1, 1)]
    assert rows == [{"host_ms": 7.0}, {"host_ms": 7.7}, {"host_ms": 8.0}]


def test_what_stays_doubtful_keeps_its_mark_after_two_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(latencies, "measure_entry", lambda *_, again: asked.append(again) or bench(9.0, NOISY))
    row = {"host_ms": 11.7, "host_ms_doubts": [NOISY]}
    nothing: Any = None
    measure_doubtful_again(nothing, [(nothing, row)], lambda number, count: None)
    assert len(asked) == 2 and row == {"host_ms": 9.0, "host_ms_doubts": [NOISY]}
