"""Reads a report of `mobilevd bench` and checks all of it: the JSON Schema beside this file decides.

Only the keywords that `bench.schema.json` uses are supported here, so that checking a report needs no package; any
validator of JSON Schema, draft 2020-12, reads the same file and agrees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from device_runner.errors import RunnerError
from device_runner.json_files import parse_json, read_bytes
from device_runner.protocol.statistics import summarize

SCHEMA_VERSION = 2
KIND = "mobilevd-bench"
SCHEMA_FILE = Path(__file__).with_name("bench.schema.json")

_ANNOTATIONS = {"$schema", "title", "description", "$defs"}
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "object": (lambda value: isinstance(value, dict), "an object"),
    "array": (lambda value: isinstance(value, list), "a list"),
    "string": (lambda value: isinstance(value, str), "a text"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "null": (lambda value: value is None, "null"),
    "number": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
    "integer": (
        lambda value: (
            not isinstance(value, bool)
            and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
        ),
        "a whole number",
    ),
}
_SHOWN_CHARACTERS = 60
CLOCK_TOLERANCE_S = 1e-6
"""By which a run may seem to start before the one before is over: times are rounded when they are written."""
_TIMES = (
    *("samples_ms", "warmup_ms", "starts_s", "cpu_ms", "loads_ms"),
    *("summary", "figure", "average_ms", "load_ms", "sustained", "profile"),
)


class _Mismatch(Exception):
    """A value that does not fit: its place (JSON path) and what would fit."""


def read_report(path: Path | str) -> dict[str, Any]:
    """Read the report in a file, checked against the schema and for the consistency of its parts.

    Raises `RunnerError` naming the file and the place in it (`measurements[0].samples_ms[3]`).
    """
    path = Path(path)
    try:
        report = parse_json(read_bytes(path))
    except FileNotFoundError:
        raise RunnerError(f"{path}: there is no such file; `mobilevd bench` writes reports") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunnerError(f"{path}: cannot be read as JSON: {error}") from None
    try:
        check_report(report)
    except RunnerError as error:
        raise RunnerError(f"{path}: {error}") from None
    return report


def check_report(report: Any) -> None:
    """Raise `RunnerError` naming the first place in the report that breaks the schema."""
    _check_kind(report)
    try:
        validate(report, schema())
    except _Mismatch as mismatch:
        raise RunnerError(str(mismatch)) from None
    for index, measurement in enumerate(report["measurements"]):
        _check_agreement(f"measurements[{index}]", measurement)
    for index, clip in enumerate(report["clips"]):
        if clip["emulated"] and clip["total_ms"] is not None:
            raise RunnerError(f"clips[{index}].total_ms must be null: a program of the clip was emulated")


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def _check_kind(report: Any) -> None:
    if not isinstance(report, dict) or not ("kind" in report or "samples_ms" in report):
        raise RunnerError("is not a report of `mobilevd bench` (it has no kind)")
    version = report.get("schema_version")
    if report.get("kind", KIND) != KIND:
        raise RunnerError(f"is not a report of `mobilevd bench`: kind is {_shown(report['kind'])}, not {KIND!r}")
    if version != SCHEMA_VERSION:
        mend = "measure again" if isinstance(version, int) and version < SCHEMA_VERSION else "use a newer mobilevd"
        raise RunnerError(f"schema_version is {_shown(version)}; this program reads {SCHEMA_VERSION}: {mend}")


def _check_agreement(place: str, measurement: dict[str, Any]) -> None:
    """Check what a schema cannot express: an emulated run has no times, and a summary matches its samples."""
    samples, summary, figure = measurement["samples_ms"], measurement["summary"], measurement["figure"]
    if measurement["emulated"]:
        for key in _TIMES:
            if measurement.get(key) not in (None, []):
                raise RunnerError(
                    f"{place}.{key} must be empty or null: the run was emulated, its times are no latencies"
                )
        return
    for key, value in (("summary", summary), ("figure", figure)):
        if value is None:
            raise RunnerError(f"{place}.{key} must be an object, not null, unless the run was emulated")
    if not samples:
        if measurement["average_ms"] is None or figure["name"] != "mean":
            raise RunnerError(f"{place}.samples_ms is empty, so average_ms must be given and the figure be the mean")
        return
    if summary["n"] != len(samples):
        raise RunnerError(f"{place}.summary.n is {summary['n']}, but there are {len(samples)} samples_ms")
    if missing := {"p50", "p90", "cv", "median_ci_low", "median_ci_high"} - set(summary):
        raise RunnerError(f"{place}.summary.{min(missing)} is missing")
    _check_figures(place, samples, summary, figure)
    for key in ("starts_s", "cpu_ms"):
        if measurement[key] and len(measurement[key]) != len(samples):
            raise RunnerError(f"{place}.{key} has {len(measurement[key])} entries for {len(samples)} samples_ms")
    starts = measurement["starts_s"]
    for index in range(1, len(starts)):
        if starts[index] < starts[index - 1] + samples[index - 1] / 1e3 - CLOCK_TOLERANCE_S:
            raise RunnerError(
                f"{place}.starts_s[{index}] is {starts[index]:.6f}, before the run of {samples[index - 1]:.6g} ms that "
                f"began at {starts[index - 1]:.6f} was over"
            )


def _check_figures(place: str, samples: list[float], summary: dict[str, float], figure: dict[str, Any]) -> None:
    """Check that what is told of the samples follows from them."""
    expected = summarize(samples)
    if "effective_n" not in summary:  # before samples that are alike were taken into account
        expected = {key: value for key, value in expected.items() if not key.startswith("median_ci")}
    told = [(f"summary.{key}", value, expected[key]) for key, value in summary.items() if key in expected]
    name = figure["name"]
    told.append(("figure.ms", figure["ms"], expected["mean"] if name == "mean" else expected[name]))
    for key, value, right in told:
        if not math.isclose(value, right, rel_tol=1e-6, abs_tol=1e-9):
            raise RunnerError(f"{place}.{key} is {value:.6g}, but its samples_ms give {right:.6g}")


def validate(value: Any, rule: dict[str, Any], place: str = "") -> None:
    """Raise `_Mismatch` for the first value that the rule does not allow; an unknown keyword is a `KeyError`."""
    for keyword, argument in rule.items():
        if keyword not in _ANNOTATIONS:
            _KEYWORDS[keyword](value, argument, rule, place)


def _check_ref(value: Any, reference: str, rule: dict[str, Any], place: str) -> None:
    validate(value, schema()["$defs"][reference.removeprefix("#/$defs/")], place)


def _check_type(value: Any, types: str | list[str], rule: dict[str, Any], place: str) -> None:
    types = [types] if isinstance(types, str) else types
    if not any(_TYPES[each][0](value) for each in types):
        raise _must(place, f"be {' or '.join(_TYPES[each][1] for each in types)}", value)


def _check_minimum(value: Any, least: float, rule: dict[str, Any], place: str) -> None:
    if _TYPES["number"][0](value) and value < least:
        raise _must(place, f"be at least {least}", value)


def _check_enum(value: Any, allowed: list[Any], rule: dict[str, Any], place: str) -> None:
    if value not in allowed:
        raise _must(place, f"be {' or '.join(repr(each) for each in allowed)}", value)


def _check_const(value: Any, allowed: Any, rule: dict[str, Any], place: str) -> None:
    _check_enum(value, [allowed], rule, place)


def _check_required(value: Any, keys: list[str], rule: dict[str, Any], place: str) -> None:
    for key in keys if isinstance(value, dict) else ():
        if key not in value:
            raise _Mismatch(f"{_inside(place, key)} is missing")


def _check_properties(value: Any, rules: dict[str, Any], rule: dict[str, Any], place: str) -> None:
    for key, inner in rules.items() if isinstance(value, dict) else ():
        if key in value:
            validate(value[key], inner, _inside(place, key))


def _check_additional(value: Any, inner: dict[str, Any], rule: dict[str, Any], place: str) -> None:
    for key in value if isinstance(value, dict) else ():
        if key not in rule.get("properties", {}):
            validate(value[key], inner, _inside(place, key))


def _check_items(value: Any, inner: dict[str, Any], rule: dict[str, Any], place: str) -> None:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        validate(item, inner, f"{place}[{index}]")


_KEYWORDS: dict[str, Callable[[Any, Any, dict[str, Any], str], None]] = {
    "$ref": _check_ref,
    "type": _check_type,
    "minimum": _check_minimum,
    "enum": _check_enum,
    "const": _check_const,
    "required": _check_required,
    "properties": _check_properties,
    "additionalProperties": _check_additional,
    "items": _check_items,
}


def _inside(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _must(place: str, what: str, value: Any) -> _Mismatch:
    return _Mismatch(f"{place or 'the whole'} must {what}, not {_shown(value)}")


def _shown(value: Any) -> str:
    """The value in one line, shortened: a mistyped key may hold the whole file."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
