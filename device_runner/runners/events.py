"""Reads the runner's output, one JSON event per line, and accepts it only if it is complete and consistent.

A link that drops cuts the output anywhere and can still leave exit code 0, so all events are counted.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any

from device_runner.devices.job import RawRun
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.protocol.stop_rule import REASONS, wrong_stop

# All fields of every event; an event with another set of fields comes from another runner.
FIELDS: dict[str, dict[str, type]] = {
    "load": {
        "ns": int,
        "program_ns": int,
        "method_ns": int,
        "threads": int,
        "program_bytes": int,
        "method": str,
        "load_mode": str,
        "weight_cache": str,
        "affinity": str,
    },
    "warmup": {"index": int, "ns": int, "cpu_ns": int},
    "iteration": {"index": int, "start_ns": int, "ns": int, "cpu_ns": int},
    "output": {"index": int, "file": str, "dtype": str, "shape": list, "bytes": int},
    "etdump": {"file": str, "bytes": int},
    "done": {
        "iterations": int,
        "stop": str,
        "peak_rss_kb": int,
        "pss_kb": int,
        "minor_faults": int,
        "major_faults": int,
        "involuntary_switches": int,
    },
    "error": {"stage": str, "message": str},
}
OPTIONAL = {"load": {"weight_cache"}}
"""Fields that runners of programs without XNNPACK do not have."""
UNKNOWN = -1
"""Value of `pss_kb` where the system does not report it."""


@dataclass(frozen=True)
class Events:
    """All events of a complete run."""

    load: dict[str, Any]
    warmup: list[dict[str, Any]]
    iterations: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    etdump: dict[str, Any] | None
    done: dict[str, Any]


def read_events(run: RawRun, protocol: Protocol, num_outputs: int, *, etdump: bool = False) -> Events:
    """Read the events of a run that ended as the protocol asks.

    Raises `RunnerError` naming the condition that failed: exit code, an error event, output cut off or not
    understood, events missing, doubled or out of order, threads, cores or load mode other than asked for, runs that
    overlap in time, or a number of runs that the protocol's rule does not give for their times.
    """
    events = _complete_events(run)
    count = sum(event["event"] == "iteration" for event in events)
    if protocol.confidence is None and not protocol.min_seconds:
        count = protocol.iterations
    runs = ["warmup"] * protocol.warmup + ["iteration"] * max(count, protocol.iterations)
    _check_order(run, events, ["load", *runs, *["output"] * num_outputs, *["etdump"] * etdump, "done"])
    read = _by_name(events)
    _check_load(run, read.load, protocol)
    for name, numbered in (("warmup", read.warmup), ("iteration", read.iterations), ("output", read.outputs)):
        if [event["index"] for event in numbered] != list(range(len(numbered))):
            raise RunnerError(f"{run.device}: the runner's {name} events are not numbered 0, 1, 2, ...")
    _check_times(run, read, protocol)
    return read


def read_load(run: RawRun, protocol: Protocol) -> Events:
    """Read the events of a process that was asked only to load the program.

    Raises `RunnerError` as `read_events` does.
    """
    events = _complete_events(run)
    _check_order(run, events, ["load", "done"])
    read = _by_name(events)
    _check_load(run, read.load, protocol)
    if read.done["iterations"] != 0:
        raise RunnerError(f"{run.device}: asked to load only, the runner reports {read.done['iterations']} runs")
    return read


def _complete_events(run: RawRun) -> list[dict[str, Any]]:
    """The events of a run that did not fail: each line, with the fields that its event must have."""
    if run.exit_code != 0:
        raise RunnerError(f"{run.device}: {failure_text(run)}")
    if not run.stdout:
        raise RunnerError(f"{run.device}: the runner printed nothing; is it mobilevd's runner?")
    if not run.stdout.endswith("\n"):
        end = run.stdout.rpartition("\n")[2][-80:]
        raise RunnerError(f"{run.device}: the runner's output is cut off, it ends in {end!r}")
    lines = run.stdout.split("\n")[:-1]
    events = [_parse(run.device, number, line) for number, line in enumerate(lines, 1)]
    for event in events:
        if event["event"] == "error":
            raise RunnerError(f"{run.device}: the runner failed while {event['stage']}: {event['message']}")
    return events


def _check_order(run: RawRun, events: list[dict[str, Any]], expected: list[str]) -> None:
    names = [event["event"] for event in events]
    if names != expected:
        raise RunnerError(f"{run.device}: the runner's events are not as asked: {_difference(names, expected)}")


def _by_name(events: list[dict[str, Any]]) -> Events:
    found = {name: [event for event in events if event["event"] == name] for name in FIELDS}
    etdump = found["etdump"][0] if found["etdump"] else None
    return Events(found["load"][0], found["warmup"], found["iteration"], found["output"], etdump, found["done"][0])


def _check_load(run: RawRun, load: dict[str, Any], protocol: Protocol) -> None:
    for what, asked in (("threads", protocol.threads), ("load_mode", protocol.load_mode)):
        if load[what] != asked:
            raise RunnerError(f"{run.device}: asked for {what} {asked}, the runner reports {load[what]}")
    told = load.get("weight_cache", "none")
    if told != protocol.weight_cache and (protocol.weight_cache == "on" or told == "on"):
        raise RunnerError(
            f"{run.device}: asked for XNNPACK's weight cache {protocol.weight_cache}, the runner reports {told}"
        )
    if protocol.cpu_mask is None:
        return
    try:
        same = int(load["affinity"], 16) == int(protocol.cpu_mask, 16)
    except ValueError:
        same = False
    if not same:
        ran_on = f"ran on {load['affinity']}" if load["affinity"] else "cannot tell which it ran on"
        raise RunnerError(f"{run.device}: asked for the cores of the mask {protocol.cpu_mask}, the runner {ran_on}")


def _check_times(run: RawRun, read: Events, protocol: Protocol) -> None:
    starts = [event["start_ns"] for event in read.iterations]
    samples = [event["ns"] for event in read.iterations]
    if read.done["iterations"] != len(samples):
        raise RunnerError(
            f"{run.device}: asked for iterations {len(samples)}, the runner reports {read.done['iterations']}"
        )
    if any(ns <= 0 for ns in samples):
        raise RunnerError(f"{run.device}: an iteration took no time at all; the device's clock cannot be trusted")
    ends = [start + ns for start, ns in zip(starts, samples, strict=True)]
    for index in range(1, len(starts)):
        if starts[index] < ends[index - 1]:
            raise RunnerError(
                f"{run.device}: iteration {index} starts before the one before it ends; "
                "the device's clock cannot be trusted"
            )
    if wrong := wrong_stop(starts, samples, read.done["stop"], protocol):
        raise RunnerError(f"{run.device}: the runner's events are not as asked: {wrong}")


def _parse(device: str, number: int, line: str) -> dict[str, Any]:
    where = f"{device}: line {number} of the runner's output"
    event = _json_object(line)
    fields = FIELDS.get(str(event.get("event")))
    if fields is None or not {"event", *fields} - OPTIONAL.get(event["event"], set()) <= set(event) <= {
        "event",
        *fields,
    }:
        raise RunnerError(f"{where} is not one of its events: {line[:80]!r}")
    for key, kind in fields.items():
        if key not in event:
            continue
        value = event[key]
        least = UNKNOWN if key == "pss_kb" else 0
        if type(value) is not kind or (kind is int and value < least) or (key == "stop" and value not in REASONS):
            raise RunnerError(f"{where}: {key} is {value!r}")
    return event


def _json_object(line: str) -> dict[str, Any]:
    """The object that a line holds; empty for a line that holds none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # also: a number of thousands of digits
        return {}
    return value if isinstance(value, dict) else {}


def _difference(names: list[str], expected: list[str]) -> str:
    if not names or names[-1] != "done":
        return f"no done event at the end (last: {names[-1] if names else 'none'})"
    counts = [
        f"{names.count(name)} {name} instead of {expected.count(name)}"
        for name in FIELDS
        if names.count(name) != expected.count(name)
    ]
    return ", ".join(counts) or "out of order"


def failure_text(run: RawRun) -> str:
    """The failure of a run in one line: the runner's own error event, else its last log line."""
    for line in run.stdout.split("\n"):
        event = _json_object(line)
        if event.get("event") == "error":
            return f"the runner failed while {event.get('stage')}: {event.get('message')}"
    log = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    tail = f": {log[-1][:300]}" if log else ""
    # A shell on a device reports 128 + N for a program killed by signal N.
    number = -run.exit_code if run.exit_code < 0 else run.exit_code - 128
    try:
        return f"the runner was killed by {signal.Signals(number).name}{tail}"
    except ValueError:
        return f"the runner ended with exit code {run.exit_code}{tail}"
