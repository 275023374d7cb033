"""Text from files, names and devices: it moves no cursor, forges no line, and reaches no report as markup."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from eval.report import markdown_table, write_report_markdown
from mobilevd.cli import app
from mobilevd.plain_text import one_line, visible
from mobilevd.terminal import TerminalConsole

HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31mred\x08\x7f\u202eeslaf\r"


def test_what_shows_nothing_becomes_a_blank() -> None:
    assert visible("a\nb\tü\u4e2d") == "a\nb ü\u4e2d"
    assert one_line("a\n\n b\x1b[31m") == "a b [31m"
    assert all(c.isprintable() for c in visible(HOSTILE))


def test_nothing_on_the_console_is_an_escape_sequence() -> None:
    console = TerminalConsole(file=io.StringIO(), width=80, force_terminal=False)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(Text(HOSTILE))
    for thing in (HOSTILE, Text(HOSTILE, style="bold"), table):
        console.print(thing, markup=False)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(c.isprintable() or c == "\n" for c in told) and "red" in told
    coloured = TerminalConsole(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    coloured.print(Text("\x1b[31mx", style="bold"))
    assert coloured.file.getvalue() == "\x1b[1m [31mx\x1b[0m\n"  # type: ignore[attr-defined]  # our own style is kept


def test_an_error_about_a_hostile_name_is_told_harmlessly(tmp_path: Path) -> None:
    name = tmp_path / "x\x1b[2J\nmobilevd: all is well"
    result = CliRunner().invoke(app, ["bench", str(name)])
    assert result.exit_code == 2 and "\x1b" not in result.stderr
    first, *more = result.stderr.splitlines()
    assert all(line.startswith("  ") for line in more), "what follows a line end in a name is no line of its own"


def test_markdown_holds_no_markup_of_strangers(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> [x](http://a.b/c) ![p](//c) `c` | *b* www.a.b\n\n# heading"
    row = {
        "name": evil, "nfe": 1, "distance": 1.0, "distance_name": "FD", "motion_ratio": 1.0, "parameters": 1, "tflops": 1.0,
        "host_ms": None, "device_ms": None, "unavailable": {"host_ms": evil, "device_ms": evil}, "notes": evil,
        "samples": {"video": "00-base/samples.mp4", evil: "javascript:alert(1)", "up": "../../../etc/passwd"},
    }  # fmt: skip
    write_report_markdown(
        tmp_path / "report.md", {"name": evil, "rows": [row], "machine": {evil: evil}, "protocol": {evil: 1}}
    )
    text = (tmp_path / "report.md").read_text()
    assert re.findall(r"(?<!\\)\]\(.*?\)", text) == ["](<00-base/samples.mp4>)"], "one link, and that is ours"
    assert "<script" not in text and "://" not in text and "www." not in text
    assert "javascript:" not in text and "passwd" not in text
    assert not any(line.startswith("# heading") for line in text.splitlines())
    table = [line for line in markdown_table([row]).splitlines() if line.startswith("|")]
    assert len(table) == 3 and len({line.replace("\\|", "").count("|") for line in table}) == 1


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "a ${oc.env:SECRET,x} b", "${oc.decode:1}", "${oc.${data.fps}:x}"])
def test_a_configuration_runs_no_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    file = tmp_path / "c.yaml"
    file.write_text(f"name: {value!r}\nbase: {{model: unet, codec: codec}}\nstages: [{{name: base}}]\n")
    result = CliRunner().invoke(app, ["run", str(file), "--dry-run"])
    assert result.exit_code == 2 and "are not run in a configuration; write the value" in result.stderr
    file.write_text("name: x\nbase: {model: unet, codec: codec}\nstages: [{name: base}]\n")
    result = CliRunner().invoke(app, ["run", str(file), "--dry-run", f"name={value}"])
    assert result.exit_code == 2 and "hunter2" not in result.output


def test_the_value_of_another_key_is_still_taken(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("name: x-${seed}\nseed: 7\nbase: {model: unet, codec: codec}\nstages: [{name: base}]\n")
    assert "name: x-7" in CliRunner().invoke(app, ["run", str(file), "--dry-run"]).output


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bomb(), "more than 20000 values, aliases written out"),
        ("a: &a [*a]", "nested more than 30 deep, or in itself"),
        ("a: " + "[" * 500 + "]" * 500, "nested"),
        ("a: " + "[" * 100_000, "nested too deeply|not valid YAML"),
        ("#" * 1_100_000, "larger than 1000000 bytes"),
    ],
)
def test_yaml_that_is_made_to_break_readers(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    result = CliRunner().invoke(app, ["run", str(tmp_path / "c.yaml"), "--dry-run"])
    assert result.exit_code == 2 and re.search(told, result.stderr), result.stderr
