"""What a runner prints is believed only if it adds up: order, fields, clocks, and the rule by which it stopped."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_runner.devices.job import RawRun
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.protocol.statistics import median_half_width
from device_runner.protocol.stop_rule import stop_reason, wrong_stop
from device_runner.runners.events import Events, read_events, read_load

PLAIN = Protocol(warmup=1, iterations=3, threads=2)
LOAD = {"event": "load", "ns": 30, "program_ns": 10, "method_ns": 20, "threads": 2, "program_bytes": 100}
LOAD |= {"method": "forward", "load_mode": "mmap", "affinity": "f0"}
WARMUP = {"event": "warmup", "index": 0, "ns": 1000, "cpu_ns": 900}
OUTPUT = {"event": "output", "index": 0, "file": "output_0.bin", "dtype": "float32", "shape": [1], "bytes": 4}
DONE = {"event": "done", "stop": "count", "peak_rss_kb": 9, "pss_kb": -1, "minor_faults": 1, "major_faults": 0}
DONE |= {"involuntary_switches": 3}
MS = 1_000_000


def complete(samples: list[int], stop: str = "count", pause: int = 5, etdump: bool = False) -> list[dict[str, Any]]:
    """The events of a run with those samples, one `pause` after the other."""
    iterations, start = [], 7_000
    for index, ns in enumerate(samples):
        iterations.append({"event": "iteration", "index": index, "start_ns": start, "ns": ns, "cpu_ns": ns})
        start += ns + pause
    trace = [{"event": "etdump", "file": "trace.etdump", "bytes": 8}] if etdump else []
    done = DONE | {"iterations": len(samples), "stop": stop}
    return [LOAD, WARMUP, *iterations, OUTPUT, *trace, done]


def raw(events: list[dict[str, Any]]) -> RawRun:
    return RawRun("phone", 0, "".join(json.dumps(event) + "\n" for event in events), "", Path("nowhere"))


def read(events: list[dict[str, Any]], protocol: Protocol = PLAIN, etdump: bool = False) -> Events:
    return read_events(raw(events), protocol, 1, etdump=etdump)


def test_a_complete_run_is_read() -> None:
    events = read(complete([1000, 2000, 3000]))
    assert [event["ns"] for event in events.iterations] == [1000, 2000, 3000]
    assert len(events.warmup) == len(events.outputs) == 1 and events.etdump is None
    traced = read(complete([1000, 2000, 3000], etdump=True), etdump=True)
    assert traced.etdump is not None and traced.etdump["bytes"] == 8


def test_a_program_that_prints_nothing_is_no_runner() -> None:
    for read_it in (lambda run: read_events(run, PLAIN, 1), lambda run: read_load(run, PLAIN)):
        with pytest.raises(RunnerError, match="^phone: the runner printed nothing; is it mobilevd's runner[?]$"):
            read_it(raw([]))


def test_a_trace_is_there_exactly_if_it_was_asked_for() -> None:
    with pytest.raises(RunnerError, match="1 etdump instead of 0"):
        read(complete([1, 1, 1], etdump=True))
    with pytest.raises(RunnerError, match="0 etdump instead of 1"):
        read(complete([1, 1, 1]), etdump=True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"start_ns": 7_500}, "iteration 1 starts before the one before it ends"),
        ({"start_ns": 1_000_000}, "iteration 2 starts before the one before it ends"),
        ({"start_ns": -1}, "line 4 of the runner's output: start_ns is -1"),
        ({"ns": 0}, "took no time"),
        ({"index": 2}, "not numbered"),
        ({"ns": 1000.0}, r"line 4 of the runner's output: ns is 1000.0"),
        ({"ns": True}, "line 4 of the runner's output: ns is True"),
    ],
)
def test_clocks_that_do_not_add_up_are_refused(changes: dict[str, Any], text: str) -> None:
    events = complete([1000, 1000, 1000])
    events[3] = events[3] | changes
    with pytest.raises(RunnerError, match=text) as caught:
        read(events)
    assert str(caught.value).startswith("phone: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"stop": "bored"}, "stop is 'bored'"),
        ({"stop": "confidence"}, "says that it stopped for 'confidence', its samples say 'count'"),
        ({"iterations": 4}, "asked for iterations 3, the runner reports 4"),
        ({"pss_kb": -2}, "pss_kb is -2"),
        ({"peak_rss_kb": -1}, "peak_rss_kb is -1"),
        ({"involuntary_switches": -1}, "involuntary_switches is -1"),
        ({"swap_kb": 1}, "is not one of its events"),
    ],
)
def test_a_last_event_that_does_not_fit_is_refused(changes: dict[str, Any], text: str) -> None:
    events = complete([1000, 1000, 1000])
    events[-1] = events[-1] | changes
    with pytest.raises(RunnerError, match=text):
        read(events)


@pytest.mark.parametrize(
    ("mask", "affinity", "right"),
    [
        ("f0", "f0", True),
        ("F0", "f0", True),
        ("0f0", "f0", True),
        ("f", "f0", False),
        ("f0", "", False),
        ("f0", "x", False),
    ],
)
def test_the_cores_are_those_asked_for(mask: str, affinity: str, right: bool) -> None:
    events = complete([1000, 1000, 1000])
    events[0] = LOAD | {"affinity": affinity}
    protocol = replace(PLAIN, cpu_mask=mask)
    if right:
        read(events, protocol)
    else:
        with pytest.raises(RunnerError, match=f"asked for the cores of the mask {mask}, the runner"):
            read(events, protocol)


@pytest.mark.parametrize(
    ("told", "asked", "right"),
    [
        ({"weight_cache": "on"}, "on", True),
        ({"weight_cache": "off"}, "off", True),
        ({"weight_cache": "none"}, "off", True),  # a program of other backends
        ({}, "off", True),  # a runner built before it told
        ({"weight_cache": "off"}, "on", False),
        ({"weight_cache": "none"}, "on", False),
        ({"weight_cache": "on"}, "off", False),
        ({}, "on", False),
    ],
)
def test_the_weight_cache_is_as_asked_for(told: dict[str, str], asked: str, right: bool) -> None:
    events = complete([1000, 1000, 1000])
    events[0] = LOAD | told
    protocol = replace(PLAIN, weight_cache=asked)
    if right:
        read(events, protocol)
    else:
        with pytest.raises(RunnerError, match=f"asked for XNNPACK's weight cache {asked}, the runner reports"):
            read(events, protocol)


def test_loading_alone() -> None:
    done = DONE | {"iterations": 0}
    assert read_load(raw([LOAD, done]), PLAIN).load["ns"] == 30
    for events, text in (
        ([LOAD, WARMUP, done], "1 warmup instead of 0"),
        ([LOAD], "no done event"),
        ([LOAD, DONE | {"iterations": 3}], "reports 3 runs"),
        ([LOAD | {"load_mode": "file"}, done], "asked for load_mode mmap"),
    ):
        with pytest.raises(RunnerError, match=text):
            read_load(raw(events), PLAIN)


def test_a_number_too_long_to_read_is_no_event() -> None:
    events = raw(complete([1000, 1000, 1000]))
    long = replace(events, stdout=events.stdout.replace('"ns": 1000', '"ns": ' + "9" * 5000, 1))
    with pytest.raises(RunnerError, match="is not one of its events"):
        read_events(long, PLAIN, 1)


TIMED = replace(PLAIN, min_seconds=0.01)
SEARCH = replace(PLAIN, iterations=6, confidence=0.05, max_iterations=50, max_seconds=1)
NOISY = [MS, 9 * MS] * 25  # its median is never known


@pytest.mark.parametrize(
    ("protocol", "samples", "stop", "text"),
    [
        (TIMED, [4 * MS] * 3, "count", None),
        (TIMED, [4 * MS] * 2, "count", "2 iteration instead of 3"),
        (TIMED, [3 * MS] * 3, "count", "took 0.009 s, 0.01 s were asked for"),
        (TIMED, [4 * MS] * 4, "count", "4 timed runs are more than asked for: count was reached"),
        (SEARCH, [MS] * 6, "confidence", None),
        (SEARCH, [MS] * 8, "confidence", None),  # a look at every fiftieth sample only is allowed
        (SEARCH, [MS] * 5, "confidence", "5 iteration instead of 6"),
        (SEARCH, NOISY[:20], "confidence", "stopped after 20 timed runs, before the median was known to 0.05"),
        (SEARCH, NOISY[:20], "max_seconds", "stopped after 20 timed runs, before the median was known"),
        (SEARCH, NOISY, "max_iterations", None),
        (SEARCH, NOISY, "max_seconds", "stopped for 'max_seconds', its samples say 'max_iterations'"),
        (SEARCH, [*NOISY, MS], "max_iterations", "51 timed runs are more than asked for: max_iterations"),
        (SEARCH, [200 * MS, 20 * MS] * 4 + [200 * MS], "max_seconds", None),
        (SEARCH, [200 * MS, 20 * MS] * 6, "max_seconds", "12 timed runs are more than asked for: max_seconds"),
        (SEARCH, [MS] * 50, "max_iterations", "stopped for 'max_iterations', its samples say 'confidence'"),
    ],
)
def test_the_rule_of_stopping_is_kept(protocol: Protocol, samples: list[int], stop: str, text: str | None) -> None:
    events = complete(samples, stop)
    if text is None:
        assert len(read(events, protocol).iterations) == len(samples)
        return
    with pytest.raises(RunnerError) as caught:
        read(events, protocol)
    assert text in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    spread=st.floats(0.0, 0.5),
    confidence=st.sampled_from([0.01, 0.05, 0.2]),
    limit=st.sampled_from([{"max_iterations": 60}, {"max_seconds": 0.05}, {"max_iterations": 40, "max_seconds": 0.03}]),
    min_seconds=st.sampled_from([0.0, 0.02]),
)
def test_what_follows_the_rule_is_accepted_and_one_run_less_is_not(
    seed: int, spread: float, confidence: float, limit: dict[str, Any], min_seconds: float
) -> None:
    protocol = Protocol(iterations=8, confidence=confidence, min_seconds=min_seconds, **limit)
    draw = random.Random(seed)
    starts, samples, now, stop = [], [], 0, None
    while stop is None:
        starts.append(now)
        samples.append(int(MS * draw.lognormvariate(0, spread)))
        now += samples[-1]
        stop = stop_reason(samples, now, protocol)
        now += 10
    assert wrong_stop(starts, samples, stop, protocol) is None
    for reason in ("count", "confidence", "max_iterations", "max_seconds"):
        assert wrong_stop(starts[:-1], samples[:-1], reason, protocol) is not None
        assert (wrong_stop(starts, samples, reason, protocol) is None) == (reason == stop)
    if stop == "confidence":
        assert median_half_width(samples) <= confidence
