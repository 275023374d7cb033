"""The report in the terminal: every measurement in a row, at every width, and nothing of a file is markup."""

import io
from typing import Any

import pytest
from rich.console import Console

from device_runner.results.table import print_report
from tests.device_runner.results import reports


def printed(report: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_report(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def full() -> dict[str, Any]:
    return reports.report(
        reports.measurement([10.0] * 10 + [20.0] * 10),
        reports.measurement(
            [12034.0] * 3, bundle="a-student-with-a-long-name", precision="int8-static", program="decoder"
        ),
        reports.measurement(average_ms=31.0, device=reports.HOST, runner="qnn", notes=["averages only"]),
        reports.measurement(device=reports.EMULATED, program="decoder"),
        reports.sustained(minutes=2),
        clips=[reports.clip(), reports.clip(device="adb:qemu", emulated=True)],
        failures=[reports.failure(), reports.failure("no such program", program=None)],
    )


@pytest.mark.parametrize("width", [60, 80, 160])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    text = printed(full(), width)
    assert max(map(len, text.splitlines())) <= width
    for number in ("15.0", "20.0", "12034", "31.0", "120", "412", "550", "39.2"):
        assert number in text
    assert "…" not in text


def test_the_rows_say_what_was_measured() -> None:
    lines = printed(full(), 120).splitlines()
    row = next(line for line in lines if line.startswith("unet"))
    assert row.split() == ["unet", "15.0", "20.0", "34.2", "120", "412"]
    assert "(1) tiny (executorch-xnnpack, int8-dynamic)" in lines
    assert "adb:R58M123 (Pixel 8 Pro, Tensor G3)" in lines
    assert "protocol quick, 2 threads, runner qnn" in lines
    assert next(line for line in lines if "31.0" in line).split()[1:5] == ["31.0", "–", "–", "–"]
    assert "unet (1) on host: averages only" in lines


def test_the_figure_comes_first() -> None:
    samples = [float(value) for value in range(1, 102)]
    text = printed(reports.report(reports.measurement(samples, protocol="mlperf-single-stream")))
    assert next(line for line in text.splitlines() if line.startswith("unet")).split()[1:3] == ["91.0", "51.0"]


def test_emulated_rows_have_no_latency() -> None:
    text = printed(reports.report(reports.measurement(device=reports.EMULATED)))
    row = next(line for line in text.splitlines() if line.startswith("unet"))
    assert row.split()[1:] == "emulated: outputs right, no latency".split()
    assert "load" not in text and "ms" not in text


def test_clips_warnings_and_failures_are_listed() -> None:
    text = printed(full(), 120)
    decoder = next(line for line in text.splitlines() if line.startswith("vae_decoder") and "14" in line)
    assert decoder.split() == ["vae_decoder", "14", "31.0", "434", "79.0", "%"]
    assert "tiny (executorch-xnnpack, fp32) on adb:R58M123: 14 frames at 7 fps, sum of p50" in text
    assert "sum of p50 " in text
    assert "throttled after 127 s" in text
    assert "unet (1) on adb:R58M123: throttled: the last minute" in text
    assert "failed: unet of tiny on adb:R58M123: adb:R58M123: the device is offline" in text
    assert "failed: tiny on adb:R58M123: no such program" in text


def test_rows_with_warnings_are_marked() -> None:
    report = reports.report(reports.measurement(warnings=["noisy"]), reports.measurement(program="decoder"))
    rows = {line.split()[0]: line.split()[-1] for line in printed(report).splitlines() if " 412 " in line}
    assert rows == {"unet": "!", "decoder": "412"}


def long_names(warnings: list[str]) -> dict[str, Any]:
    """Two bundles of three programs on two devices; the second bundle on the second device has warnings."""
    other = {**reports.PHONE, "name": "adb:28041FDH200ABC", "model": "Galaxy S24 Ultra", "soc": "Snapdragon 8 Gen 3"}
    return reports.report(
        *(
            reports.measurement(
                [1234.5] * 20,
                bundle="mobilevd-smoke-funnels-pruned-64x64",
                precision=precision,
                program=program,
                device=device,
                warnings=warnings if device is other and precision != "fp32" else [],
            )
            for device in (reports.PHONE, other)
            for precision in ("fp32", "int8-static-per-channel")
            for program in ("image_encoder", "unet", "vae_decoder")
        )
    )


def test_a_row_is_one_line_however_long_its_bundles_name() -> None:
    lines = [line.rstrip() for line in printed(long_names([])).splitlines()]
    rows = [line.split() for line in lines if "1234" in line]
    assert len(rows) == 12 and all(row[1:] == ["1234", "1234", "0.0", "120", "412"] for row in rows)
    assert len(lines) == 2 * (2 + 3 + 1 + 3 + 2 + 3 + 1)  # heads and names of a device, rows below each bundle's name


def test_a_remark_is_told_once_with_the_rows_that_it_is_about() -> None:
    text = printed(long_names(["busy: 6 on 9 cores"]), 120)
    assert text.count("busy") == 1 and "! all (2) on adb:28041FDH200ABC: busy: 6 on 9 cores" in text
    report = reports.report(*(reports.measurement(program=name, notes=["n"]) for name in ("a", "b", "c")))
    assert "all: n" in printed(report).splitlines()
    report["measurements"][2]["notes"] = []
    assert "a, b: n" in printed(report).splitlines()
    assert "n" in printed(reports.report(report["measurements"][0])).splitlines()


def test_a_clip_of_unknown_length_is_told_without_it() -> None:
    clip = {**reports.clip(), "frames": None, "fps": None, "ms_per_frame": None, "figure": "mean"}
    text = printed(reports.report(clips=[clip]), 120)
    assert "on adb:R58M123: one clip, sum of mean" in text and "None" not in text


def test_text_of_files_is_neither_markup_nor_a_line_nor_an_escape() -> None:
    text = printed(
        reports.report(reports.measurement(bundle="[red]x[/red]", warnings=["one\nfailed: two\x1b[2J"])), 120
    )
    assert "[red]x[/red]" in text and "\x1b" not in text
    assert not any(line.startswith("failed") for line in text.splitlines())
