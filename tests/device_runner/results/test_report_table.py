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
    row = next(line for line in lines if line.startswith("tiny"))
    assert row.split() == ["tiny", "int8-dynamic", "unet", "15.0", "20.0", "34.2", "120", "412"]
    assert "adb:R58M123 (Pixel 8 Pro, Tensor G3)" in lines
    assert "protocol quick, 2 threads, runner qnn" in lines
    assert next(line for line in lines if "31.0" in line).split()[3:7] == ["31.0", "–", "–", "–"]
    assert "host: averages only" in "\n".join(lines)


def test_the_figure_comes_first() -> None:
    samples = [float(value) for value in range(1, 102)]
    text = printed(reports.report(reports.measurement(samples, protocol="mlperf-single-stream")))
    assert next(line for line in text.splitlines() if line.startswith("tiny")).split()[3:5] == ["91.0", "51.0"]


def test_emulated_rows_have_no_latency() -> None:
    text = printed(reports.report(reports.measurement(device=reports.EMULATED)))
    row = next(line for line in text.splitlines() if line.startswith("tiny"))
    assert row.split()[3:] == "emulated: outputs right, no latency".split()
    assert "load" not in text and "ms" not in text


def test_clips_warnings_and_failures_are_listed() -> None:
    text = printed(full(), 120)
    decoder = next(line for line in text.splitlines() if line.startswith("vae_decoder") and "14" in line)
    assert decoder.split() == ["vae_decoder", "14", "31.0", "434", "79.0", "%"]
    assert "tiny (executorch-xnnpack, fp32) on adb:R58M123: 14 frames at 7 fps, sum of p50" in text
    assert "sum of p50 " in text
    assert "throttled after 127 s" in text
    assert "! unet of tiny (executorch-xnnpack, int8-dynamic) on adb:R58M123: throttled: the last minute" in text
    assert "failed: unet of tiny on adb:R58M123: adb:R58M123: the device is offline" in text
    assert "failed: tiny on adb:R58M123: no such program" in text


def test_rows_with_warnings_are_marked() -> None:
    report = reports.report(reports.measurement(warnings=["noisy"]), reports.measurement(bundle="quiet"))
    rows = {line.split()[0]: line.split()[-1] for line in printed(report).splitlines() if "unet" in line.split()}
    assert (rows["tiny"], rows["quiet"]) == ("!", "412")


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
