"""Results as CSV: read back by the csv module, with every number and no formula."""

import csv
from pathlib import Path

import pytest

from device_runner.errors import RunnerError
from device_runner.results.csv import COLUMNS, SAMPLE_COLUMNS, write_csv, write_samples_csv
from device_runner.results.wording import one_line
from tests.device_runner.results import reports


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_row_per_measurement(tmp_path: Path) -> None:
    measured = reports.measurement(warnings=["noisy", "warm, and more"])
    file = tmp_path / "bench.csv"
    write_csv(reports.report(measured, reports.measurement(device=reports.EMULATED), reports.sustained(2)), file)
    first, emulated, sustained = rows(file)
    assert tuple(first) == COLUMNS
    assert float(first["figure_ms"]) == measured["figure"]["ms"] == float(first["p50_ms"])
    for name in ("mean", "p90", "p99", "trimmed_mean", "median_ci_low"):
        assert float(first[f"{name}_ms"]) == measured["summary"][name]
    assert (first["device"], first["model"], first["threads"], first["samples"]) == (
        "adb:R58M123",
        "Pixel 8 Pro",
        "2",
        "20",
    )
    assert first["warnings"] == "noisy; warm, and more"
    assert (first["battery_before_c"], first["thermal_status_after"]) == ("30.0", "0")
    assert emulated["emulated"] == "true" and emulated["figure_ms"] == emulated["p50_ms"] == emulated["load_ms"] == ""
    assert sustained["throttled_after_s"] == "127.0"


def test_a_row_per_sample(tmp_path: Path) -> None:
    measured = reports.measurement([5.0, 6.0, 7.0])
    averages = reports.measurement([1.0, 2.0], starts_s=[])
    file = tmp_path / "samples.csv"
    write_samples_csv(reports.report(measured, reports.measurement(average_ms=3.0), averages), file)
    read = rows(file)
    assert tuple(read[0]) == SAMPLE_COLUMNS
    assert [(row["index"], row["start_s"], row["ms"]) for row in read] == [
        ("0", "0.0", "5.0"),
        ("1", "0.005", "6.0"),
        ("2", "0.011", "7.0"),
        ("0", "", "1.0"),
        ("1", "", "2.0"),
    ]


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "\n=1", "\uff1d1", "\u202e=1", " -1"])
def test_no_name_is_a_formula(tmp_path: Path, name: str) -> None:
    report = reports.report(reports.measurement(bundle=name, program=name, warnings=[name]))
    for write, keys in ((write_csv, ("bundle", "program", "warnings")), (write_samples_csv, ("bundle", "program"))):
        write(report, tmp_path / "bench.csv")
        assert {rows(tmp_path / "bench.csv")[0][key] for key in keys} == {"'" + one_line(name)}


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="none/bench.csv: cannot be written"):
        write_csv(reports.report(reports.measurement()), tmp_path / "none" / "bench.csv")
