"""Reading reports: what `mobilevd bench` writes is accepted, everything else is refused with its place."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from device_runner.errors import RunnerError
from device_runner.results import schema as schema_module
from device_runner.results.schema import check_report, read_report, schema
from tests.device_runner.results import reports


def full() -> dict[str, Any]:
    return reports.report(
        reports.measurement(profile=reports.profile()),
        reports.measurement(device=reports.EMULATED),
        reports.measurement(average_ms=41.0, device=reports.HOST),
        reports.sustained(minutes=2),
        clips=[reports.clip(), reports.clip(emulated=True)],
        failures=[reports.failure(), reports.failure(program=None)],
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(full()), encoding="utf-8")
    assert read_report(file) == full()


def test_an_older_clip_and_one_of_unknown_length_are_read() -> None:
    report = full()
    for key in ("target", "precision", "figure"):
        del report["clips"][0][key]
    report["clips"][1].update(frames=None, fps=None)
    check_report(report)


def put(report: dict[str, Any], place: list[Any], value: Any) -> None:
    for key in place[:-1]:
        report = report[key]
    report[place[-1]] = value


M = "measurements"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ([M, 0, "samples_ms", 3], "x", r"measurements\[0\]\.samples_ms\[3\] must be a number, not 'x'"),
        ([M, 0, "samples_ms", 3], True, r"samples_ms\[3\] must be a number, not True"),
        ([M, 0, "samples_ms", 3], -1.0, r"samples_ms\[3\] must be at least 0, not -1\.0"),
        ([M, 0, "samples_ms"], [1.0], r"measurements\[0\]\.summary\.n is 20, but there are 1 samples_ms"),
        ([M, 0, "starts_s"], [1.0], r"starts_s has 1 entries for 20"),
        ([M, 0, "figure", "name"], "p42", r"figure\.name must be 'p50' or 'p90' or 'mean'"),
        ([M, 0, "figure"], None, r"measurements\[0\]\.figure must be an object, not null"),
        ([M, 0, "summary"], {"n": 20, "mean": 1.0}, r"summary\.cv is missing"),
        ([M, 0, "summary", "p50"], 20.0, r"measurements\[0\]\.summary\.p50 is 20, but its samples_ms give 41\.7"),
        ([M, 0, "summary", "median_ci_high"], 42.5, r"summary\.median_ci_high is 42\.5, but its samples_ms give"),
        ([M, 0, "figure", "ms"], 7.0, r"measurements\[0\]\.figure\.ms is 7, but its samples_ms give"),
        ([M, 0, "samples_ms", 3], 9e9, r"measurements\[0\]\.summary\.\w+ is .*, but its samples_ms give"),
        ([M, 0, "starts_s", 3], 0.0, r"measurements\[0\]\.starts_s\[3\] is 0\.0+, before the run of .* was over"),
        ([M, 0, "starts_s", 3], 0.101, r"starts_s\[3\] is 0\.101000, before the run"),
        ([M, 0, "emulated"], True, r"measurements\[0\]\.samples_ms must be empty or null: the run was emulated"),
        ([M, 1, "profile"], reports.profile(), r"measurements\[1\]\.profile must be empty or null: the run was emul"),
        ([M, 1, "average_ms"], 41.0, r"measurements\[1\]\.average_ms must be empty or null: the run was emulated"),
        ([M, 1, "load_ms"], 120.5, r"measurements\[1\]\.load_ms must be empty or null: the run was emulated"),
        ([M, 0, "profile"], {}, r"measurements\[0\]\.profile\.runs is missing"),
        ([M, 0, "profile", "by_operator", 1, "ms"], "x", r"profile\.by_operator\[1\]\.ms must be a number, not 'x'"),
        ([M, 0, "runner", "affinity"], 3, r"runner\.affinity must be a text or null, not 3"),
        (["clips", 0, "figure"], "p90", r"clips\[0\]\.figure must be 'p50' or 'mean' or None, not 'p90'"),
        (["clips", 1, "total_ms"], 5.0, r"clips\[1\]\.total_ms must be null: a program of the clip was emulated"),
        ([M, 1, "load_ms"], "fast", r"measurements\[1\]\.load_ms must be a number or null"),
        ([M, 2, "average_ms"], None, r"measurements\[2\]\.samples_ms is empty, so average_ms must be given"),
        ([M, 0, "memory", "peak_rss_bytes"], 1.5, r"memory\.peak_rss_bytes must be a whole number"),
        ([M, 0, "state_before", "governors"], "x", r"state_before\.governors must be a list, not 'x'"),
        ([M, 3, "series", 2, "uptime_s"], [], r"measurements\[3\]\.series\[2\]\.uptime_s must be a number or null"),
        ([M, 0, "bundle"], {}, r"measurements\[0\]\.bundle\.name is missing"),
        (["clips", 0, "programs", 1, "runs"], -2, r"clips\[0\]\.programs\[1\]\.runs must be at least 0"),
        (["failures", 1, "error"], None, r"failures\[1\]\.error must be a text, not None"),
        ([M], {"a": "b" * 999}, r"measurements must be a list, not \{'a': 'b+\.\.\."),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path: Path, place: list[Any], value: Any, message: str) -> None:
    report = copy.deepcopy(full())
    put(report, place, value)
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(RunnerError, match=message) as raised:
        read_report(file)
    assert str(raised.value).startswith(f"{file}: ") and "\n" not in str(raised.value)


@pytest.mark.parametrize("key", [*full()[M][0], *full()])
def test_keys_that_may_be_missing_are_few(key: str) -> None:
    report = full()
    del (report[M][0] if key in report[M][0] else report)[key]
    if key in ("sustained", "transfer", "profile"):
        check_report(report)
    else:
        with pytest.raises(RunnerError, match=key):
            check_report(report)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b'{"kind": "mobilevd-bench", "schema_version": NaN}', "NaN is no number"),
        (b'{"kind": "mobilevd-bench", "schema_version": 1e999}', "1e999 is no number"),
        (b"[]", "is not a report of `mobilevd bench`"),
        (b'{"name": "tiny", "programs": {}}', "is not a report of `mobilevd bench`"),
        (b'{"kind": "holiday"}', "kind is 'holiday'"),
        (b'{"samples_ms": [1], "schema_version": 1}', "schema_version is 1; this program reads 2: measure again"),
        (b'{"kind": "mobilevd-bench", "schema_version": 3}', "use a newer mobilevd"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "other.json"
    file.write_bytes(content)
    with pytest.raises(RunnerError, match=message) as raised:
        read_report(file)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="there is no such file"):
        read_report(tmp_path / "none.json")
    with pytest.raises(RunnerError, match="cannot be read"):
        read_report(tmp_path)


def keywords(rule: Any) -> set[str]:
    """All keywords of a schema, not the names of properties."""
    found = set(rule)
    for named in ("properties", "$defs"):
        for inner in rule.get(named, {}).values():
            found |= keywords(inner)
    for single in ("items", "additionalProperties"):
        if single in rule:
            found |= keywords(rule[single])
    return found


def test_the_schema_uses_only_keywords_that_are_checked() -> None:
    assert keywords(schema()) <= set(schema_module._KEYWORDS) | schema_module._ANNOTATIONS
