"""The printed comparison at 80 columns: rows whole, what they share once, remarks once with whom they are about."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from device_runner.results.compare import compare
from device_runner.results.comparison_table import print_comparison
from tests.device_runner.results import reports

BUNDLE = "mobilevd-smoke-funnels-pruned-64x64"
SLOW_MS = {"image_encoder": 11.5, "vae_encoder": 155.0, "unet": 12034.0, "vae_decoder": 31.0}
BUSY = "busy: before the start the load average was 6.52 on 9 cores; other programs were running"


def side(factor: float, *, precisions: tuple[str, ...] = ("fp32",), **other: Any) -> dict[str, Any]:
    return reports.report(
        *(
            reports.measurement(
                reports.latencies(index, 50, ms * factor),
                precision=precision,
                program=program,
                **{"bundle": BUNDLE, **other},
            )
            for precision in precisions
            for index, (program, ms) in enumerate(SLOW_MS.items())
        )
    )


def printed(a: dict[str, Any], b: dict[str, Any], width: int = 80, **options: Any) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_comparison(compare(a, b, **options), console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def rows(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines if line.split()[:1] and line.split()[0] in SLOW_MS and "." in line]


def test_a_row_is_one_line_and_its_bundle_stands_above_the_table() -> None:
    lines = printed(side(1), side(1.2))
    assert lines[:3] == ["adb:R58M123", "protocol quick, 2 threads; p50", f"{BUNDLE} (executorch-xnnpack, fp32)"]
    table = lines[3 : lines.index("")]
    assert len(table) == 3 + 4  # two lines of heads, the rule, a line per program
    for line, (program, ms) in zip(table[3:], SLOW_MS.items(), strict=True):
        name, a, b, ratio, _, _, verdict = line.split()
        assert (name, ratio, verdict) == (program, "1.200", "regression")
        assert (float(a), float(b)) == (pytest.approx(ms, rel=0.02), pytest.approx(1.2 * ms, rel=0.02))
    assert sum(BUNDLE in line for line in lines) == 1


@pytest.mark.parametrize("width", [70, 80, 200])
def test_no_number_is_cut_or_broken(width: int) -> None:
    a, b = (
        side(1, precisions=("fp32", "int8-static-per-channel")),
        side(10, precisions=("fp32", "int8-static-per-channel")),
    )
    for each in (*a["measurements"], *b["measurements"]):
        if each["program"] == "vae_encoder":
            each["program"] = "a_program_with_a_name_longer_than_any_of_ours"
    lines = printed(a, b, width)
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    numbers = [line.split()[-6:] for line in lines if line.endswith("regression") and "10.000" in line]
    assert len(numbers) == 8 and all(len(row) == 6 and row[-2] == "<0.0001" for row in numbers)
    assert any(row[1].startswith(("119", "120", "121")) and len(row[1]) == 6 for row in numbers)


def test_two_variants_are_named_once_each() -> None:
    lines = printed(side(1), side(0.5, precisions=("int8-static-per-channel",), bundle=f"{BUNDLE}-one-step"))
    told = " ".join(lines)
    assert f"A: {BUNDLE} (executorch-xnnpack, fp32)" in told
    assert f"B: {BUNDLE}-one-step (executorch-xnnpack, int8-static-per-channel)" in told
    assert told.count(BUNDLE) == 2
    assert "! all: precisions differ: fp32 in A, int8-static-per-channel in B" in told


def test_a_remark_is_told_once_with_the_rows_that_it_is_about() -> None:
    both = ("fp32", "int8-static")
    a, b = side(1, precisions=both), side(1, precisions=both)
    for each in b["measurements"]:
        each["warnings"] = [BUSY]
        if each["program"] == "unet":
            each["warnings"].append("noisy: very")
        if each["program"] == "vae_decoder" and each["bundle"]["precision"] == "fp32":
            each["warnings"].append("asleep: yes")
    lines = printed(a, b)
    told = " ".join(lines)
    assert told.count("busy") == 1 and f"! all: B: {BUSY}" in told
    assert "! unet: B: noisy: very" in lines
    assert "! vae_decoder (1): B: asleep: yes" in lines
    assert f"(1) {BUNDLE} (executorch-xnnpack, fp32)" in lines
    assert f"(2) {BUNDLE} (executorch-xnnpack, int8-static)" in lines
    assert [row[0] for row in rows(lines) if row[-1] == "same"] == [*SLOW_MS, *SLOW_MS]


def test_devices_that_differ_are_told_with_their_arrow() -> None:
    lines = printed(side(1), side(1, device={**reports.PHONE, "name": "adb:other"}), allow_different_devices=True)
    assert lines[0] == "adb:R58M123 -> adb:other"


def test_one_device_of_several_is_named_with_its_remark() -> None:
    other = {**reports.PHONE, "name": "adb:other"}
    a = reports.report(*side(1)["measurements"], *side(1, device=other)["measurements"])
    b = reports.report(*side(1)["measurements"], *side(1, device=other, warnings=[BUSY])["measurements"])
    told = " ".join(printed(a, b, 300))
    assert f"! all on adb:other: B: {BUSY}" in told
