"""Reads the runner's output, one JSON event per line, and believes it only if it is complete and consistent.

A link that drops cuts the output anywhere and can still leave exit code 0, so everything is counted.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any

from device_runner.devices import RawRun
from device_runner.errors import RunnerError
from device_runner.protocol import Protocol

# Every field of every event; an event with another set of fields comes from another runner.
FIELDS: dict[str, dict[str, type]] = {
    "load": {
        "ns": int,
        "program_ns": int,
        "method_ns": int,
        "threads": int,
        "program_bytes": int,
        "method": str,
        "load_mode": str,
    },
    "warmup": {"index": int, "ns": int, "cpu_ns": int},
    "iteration": {"index": int, "ns": int, "cpu_ns": int},
    "output": {"index": int, "file": str, "dtype": str, "shape": list, "bytes": int},
    "done": {"iterations": int, "peak_rss_kb": int, "minor_faults": int, "major_faults": int},
    "error": {"stage": str, "message": str},
}


@dataclass(frozen=True)
class Events:
    """All events of a complete run."""

    load: dict[str, Any]
    warmup: list[dict[str, Any]]
    iterations: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    done: dict[str, Any]


def read_events(run: RawRun, protocol: Protocol, num_outputs: int) -> Events:
    """The events of a run that ended as the protocol asks.

    Raises `RunnerError` saying which condition failed: exit code, an error event, output cut off or not
    understood, events missing, doubled or out of order, another number of runs or threads than asked for.
    """
    if run.exit_code != 0:
        raise RunnerError(f"{run.device}: {_failure_text(run)}")
    if not run.stdout.endswith("\n"):
        end = run.stdout.rpartition("\n")[2][-80:]
        raise RunnerError(f"{run.device}: the runner's output is cut off, it ends in {end!r}")
    lines = run.stdout.split("\n")[:-1]
    events = [_parse(run.device, number, line) for number, line in enumerate(lines, 1)]
    for event in events:
        if event["event"] == "error":
            raise RunnerError(f"{run.device}: the runner failed while {event['stage']}: {event['message']}")

    names = [event["event"] for event in events]
    runs = ["warmup"] * protocol.warmup + ["iteration"] * protocol.iterations
    expected = ["load", *runs, *["output"] * num_outputs, "done"]
    if names != expected:
        raise RunnerError(f"{run.device}: the runner's events are not as asked: {_difference(names, expected)}")
    by_name = {name: [event for event in events if event["event"] == name] for name in FIELDS}
    for name in ("warmup", "iteration", "output"):
        if [event["index"] for event in by_name[name]] != list(range(len(by_name[name]))):
            raise RunnerError(f"{run.device}: the runner's {name} events are not numbered 0, 1, 2, ...")
    load, done = by_name["load"][0], by_name["done"][0]
    for what, got, asked in (
        ("threads", load["threads"], protocol.threads),
        ("load_mode", load["load_mode"], protocol.load_mode),
        ("iterations", done["iterations"], protocol.iterations),
    ):
        if got != asked:
            raise RunnerError(f"{run.device}: asked for {what} {asked}, the runner reports {got}")
    if any(event["ns"] <= 0 for event in by_name["iteration"]):
        raise RunnerError(f"{run.device}: an iteration took no time at all; the device's clock cannot be trusted")
    return Events(load, by_name["warmup"], by_name["iteration"], by_name["output"], done)


def _parse(device: str, number: int, line: str) -> dict[str, Any]:
    where = f"{device}: line {number} of the runner's output"
    event = _json_object(line)
    fields = FIELDS.get(str(event.get("event")))
    if fields is None or set(event) != {"event", *fields}:
        raise RunnerError(f"{where} is not one of its events: {line[:80]!r}")
    for key, kind in fields.items():
        value = event[key]
        if type(value) is not kind or (kind is int and value < 0):
            raise RunnerError(f"{where}: {key} is {value!r}")
    return event


def _json_object(line: str) -> dict[str, Any]:
    """The object that a line holds; empty for a line that holds none."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
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


def _failure_text(run: RawRun) -> str:
    """One line for a run that failed: the runner's own error event, else its last log line."""
    for line in run.stdout.split("\n"):
        event = _json_object(line)
        if event.get("event") == "error":
            return f"the runner failed while {event.get('stage')}: {event.get('message')}"
    log = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    tail = f": {log[-1][:300]}" if log else ""
    # 128 + N is what a shell on a device reports for a program killed by signal N.
    number = -run.exit_code if run.exit_code < 0 else run.exit_code - 128
    try:
        return f"the runner was killed by {signal.Signals(number).name}{tail}"
    except ValueError:
        return f"the runner ended with exit code {run.exit_code}{tail}"
