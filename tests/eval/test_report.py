"""The cumulative table: what is in it, in which units, and what it says where a figure is missing."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.figures import against_base, significant, with_prefix
from eval.report import describe_protocol, render_table, write_report_markdown

PROTOCOL = {
    "generated_clips": 96,
    "reference_clips": 512,
    "frames": 8,
    "height": 32,
    "width": 64,
    "fps": 7.0,
    "extractor": "motion-encoder-v1",
    "feature_dim": 32,
    "input_size": [32, 64],
    "resize": "bilinear, antialiased",
    "trained_for_frames": 8,
}


def rows(**changes: Any) -> list[dict[str, Any]]:
    common = {"distance_name": "FD-motion", "device_ms": None}
    base = {
        "name": "base",
        "nfe": 50,
        "distance": 12.345,
        "motion_ratio": 1.04,
        "parameters": 1_312_000,
        "tflops": 0.00428,
        "host_ms": 31.26,
        "flops_per_clip": 2.14e11,
        **common,
    }
    last = {
        "name": "+ channel [funnels]",
        "nfe": 1,
        "distance": 14.0,
        "motion_ratio": 0.9,
        "parameters": 804_321,
        "tflops": 0.001,
        "host_ms": 7.456,
        "flops_per_clip": 1.0e9,
        **common,
    }
    return [base, {**last, **changes}]


def printed(table_rows: list[dict[str, Any]], **options: Any) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    render_table(table_rows, console, **options)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (45.43, "45.4"),
        (8.6, "8.60"),
        (3630.0, "3,630"),
        (1780.4, "1,780"),
        (0.0123456, "0.0123"),
        (-2.5, "-2.50"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1_524_623_082, "1.52 G"),
        (237_400, "237 k"),
        (999_900, "1.00 M"),
        (4.34e12, "4.34 T"),
        (2.27e15, "2.27 P"),
        (12, "12.0"),
        (9.996, "10.0"),
    ],
)
def test_prefixes(value: float, text: str) -> None:
    assert with_prefix(value) == text


def test_ratio_in_words() -> None:
    assert against_base(50 * 45.43 / 4.34) == "523x fewer"  # the headline of PAPER section 1
    assert against_base(1.0) == "1x"
    assert against_base(0.5) == "2.00x more"
    assert against_base(1.91) == "1.91x fewer"


def test_terminal_table() -> None:
    text = printed(rows(), protocol=PROTOCOL, unavailable={"device_ms": "no phone attached"})
    header = next(line for line in text.splitlines() if "model" in line)
    for word in ("NFE", "FD-motion", "motion", "params", "GFLOPs", "host ms", "FLOPs per clip", "against base"):
        assert word in header
    assert "TFLOPs" not in header and "device ms" not in header
    base = next(line for line in text.splitlines() if " base " in line and "12.3" in line)
    for figure in ("50", "12.3", "1.04", "1.31 M", "4.28", "31.3", "214 G", "1x"):
        assert figure in base
    last = next(line for line in text.splitlines() if "+ channel [funnels]" in line)
    for figure in ("14.0", "0.90", "804 k", "1.00", "7.46", "1.00 G", "214x fewer"):
        assert figure in last
    assert "device ms unavailable: no phone attached" in text
    assert "FD-motion: Frechet distance, 96 generated against 512 reference clips; 8 frames of 64x32 at 7 fps" in text


def with_intervals() -> list[dict[str, Any]]:
    base, last = rows()
    base |= {"distance_low": 11.0, "distance_high": 13.69, "kernel_distance": 0.0123, "kernel_distance_high": 0.0156}
    last |= {"distance_low": 12.0, "distance_high": 16.0, "kernel_distance": -0.001, "kernel_distance_high": 0.002}
    equal = {"difference": 1.655, "low": -0.5, "high": 3.81, "equal_within_noise": True}
    last["against_previous"] = {"rows": [base["name"], last["name"]], "distance": equal}
    return [base, last]


def test_distances_bear_their_intervals_and_what_is_equal_within_noise() -> None:
    text = printed(with_intervals(), protocol=PROTOCOL, remarks=["96 clips are few"])
    header = next(line for line in text.splitlines() if "model" in line)
    assert "FD-motion" in header and "KD-motion" in header and "over seeds" not in header
    base = next(line for line in text.splitlines() if " base " in line and "12.3" in line)
    assert "12.3 ± 1.3 " in base and "≈" not in base and "0.0123 ± 0.0033" in base
    last = next(line for line in text.splitlines() if "+ channel [funnels]" in line)
    assert "14.0 ± 2.0 ≈" in last and "-0.00100 ± 0.0030" in last
    assert "≈ is equal to the row above within noise" in text and "96 clips are few" in text
    apart = with_intervals()
    apart[1]["against_previous"]["distance"]["equal_within_noise"] = False
    assert "≈" not in printed(apart)
    assert "±" not in printed(rows()) and "KD-motion" not in printed(rows())  # of an earlier version


def test_a_doubtful_latency_bears_a_mark_and_all_of_them_one_footnote() -> None:
    base, last = rows()
    base["host_ms_doubts"] = ["noisy: the middle 80 %", "busy: before the start"]
    last["host_ms_doubts"] = ["noisy: the middle 80 %"]
    text = printed([base, last])
    assert "31.3 ?" in text and "7.46 ?" in text
    assert text.count("is doubtful") == 1
    assert "? host ms is doubtful (noisy: base, + channel [funnels]; busy: base)" in " ".join(text.split())
    assert "?" not in printed(rows())


def test_a_column_that_no_row_has_is_told_once(tmp_path: Path) -> None:
    results = {"name": "tiny", "rows": rows(), "unavailable": {"device_ms": "no phone | attached"}}
    write_report_markdown(tmp_path / "report.md", results)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.count("unavailable") == 1 and "device ms unavailable: no phone \\| attached" in text


def test_rows_of_clips_that_the_network_does_not_know_are_named() -> None:
    base, last = rows()
    assert "unlike all" not in printed([{**base, "outside_domain": 0.01}, last])
    text = printed([{**base, "outside_domain": 0.01}, {**last, "outside_domain": 0.5}])
    assert "unlike all that the network of the distance was trained on: 50% of + channel [funnels];" in text


def test_differences_of_pairs_are_in_the_report(tmp_path: Path) -> None:
    base, last = with_intervals()
    middle = {**last, "name": "middle"}

    def pair(first: str, second: str, difference: float, equal: bool) -> dict[str, Any]:
        found = {"difference": difference, "low": difference - 2, "high": difference + 2, "equal_within_noise": equal}
        return {"rows": [first, second], "distance": found, "kernel_distance": found}

    pairs = [
        pair("base", "middle", 1.5, True),
        pair("base", last["name"], 5.0, False),
        pair("middle", last["name"], -3.5, False),
    ]
    results = {"name": "tiny", "rows": [base, middle, last], "pairs": pairs, "remarks": ["96 | clips are few"]}
    write_report_markdown(tmp_path / "report.md", results)
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert "96 \\| clips are few" in lines
    assert "| middle | base | +1.50 | -0.500 to +3.50 | equal within noise |" in lines
    assert "| + channel \\[funnels\\] | middle | -3.50 | -5.50 to -1.50 | smaller |" in lines
    assert "| + channel \\[funnels\\] | base | +5.00 | +3.00 to +7.00 | larger |" in lines
    assert sum("| base |" in line and line.count("|") == 6 for line in lines) == 2, "a pair is told once"


def test_large_models_are_in_teraflops() -> None:
    text = printed([{**row, "tflops": 1000 * row["tflops"]} for row in rows()])
    assert "TFLOPs" in text and "GFLOPs" not in text and "4.28" in text


def test_a_figure_missing_in_one_row() -> None:
    changed = rows(host_ms=None, distance=math.nan, unavailable={"host_ms": "no C++ compiler"})
    text = printed(changed)
    assert "host ms unavailable for + channel [funnels]: no C++ compiler" in text
    assert "FD-motion unavailable for + channel [funnels]: not measured" in text
    assert "unavailable" in next(line for line in text.splitlines() if "+ channel" in line and "804 k" in line)
    assert "31.3" in text


def test_two_kinds_of_distance_bear_their_names() -> None:
    text = printed(rows(distance_name="FVD"))
    assert "14.0 (FVD)" in text and "12.3 (FD-motion)" in text


def test_protocol_in_words() -> None:
    text = describe_protocol(PROTOCOL, "FD-motion")
    assert "features of motion-encoder-v1 (32 features, input 64x32, resize bilinear, antialiased)" in text
    assert text.endswith("trained for frames 8")
    assert describe_protocol({}, "FVD") == "FVD: protocol unknown"


def test_markdown_report(tmp_path: Path) -> None:
    changed = rows(
        notes=["27 of 38 temporal blocks removed.", "Second note."],
        samples={"video": "05-funnels/samples.mp4", "sheet": "05 funnels/sheet.png"},
        unavailable={"device_ms": "no phone | attached"},
    )
    results = {
        "name": "tiny",
        "created": "2025-01-01T00:00:00Z",
        "seed": 3,
        "machine": {"cpu": "x86-64", "cpu_cores": 2},
        "protocol": PROTOCOL,
        "rows": changed,
    }
    write_report_markdown(tmp_path / "report.md", results)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[0] == "# tiny"
    assert "- seed: 3" in lines and "- cpu cores: 2" in lines
    table = [line for line in lines if line.startswith("|")]
    assert table[0].startswith("| model | NFE | FD-motion | motion | params | GFLOPs | host ms | device ms |")
    assert len(table) == 4
    assert all(line.replace("\\|", "").count("|") == table[1].count("|") for line in table)
    assert "| unavailable: not measured |" in table[2]
    assert "| unavailable: no phone \\| attached |" in table[3] and "| 214x fewer |" in table[3]
    # The protocol is named right above the numbers.
    assert any(line.startswith("FD-motion: Frechet distance, 96 generated") for line in lines[: lines.index(table[0])])
    detail = next(line for line in lines if line.startswith("- **+ channel"))
    assert "27 of 38 temporal blocks removed. Second note." in detail
    assert "[video](<05-funnels/samples.mp4>)" in detail and "[sheet](<05 funnels/sheet.png>)" in detail


def test_markdown_report_before_the_first_stage(tmp_path: Path) -> None:
    write_report_markdown(tmp_path / "report.md", {"name": "tiny", "rows": []})
    assert "No stage has finished yet." in (tmp_path / "report.md").read_text()
