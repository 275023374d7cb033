"""The page of a run or several: what it shows, and how it behaves in a browser, on a phone, in the dark, by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from mobilevd.commands.report import report_command
from mobilevd.errors import UserError
from mobilevd.report.page import render
from mobilevd.report.run_data import read_run
from tests.browser import PHONE, WIDE, needs_chromium, opened
from tests.mobilevd.report.runs import LABELS, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    report_command([run], console=Console(quiet=True))
    return run / "report.html"


@needs_chromium
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_amiss_in_a_browser(page: Path, size: tuple[int, int], dark: bool) -> None:
    with opened(page, size, dark) as shown:
        shown.value("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        assert shown.violations() == []
        assert shown.complaints == [] and shown.fetched == []
        assert shown.hangs_over == 0


@needs_chromium
def test_clips_play_in_step_and_stop_together(page: Path) -> None:
    with opened(page) as shown:
        shown.wait_until("[...document.querySelectorAll('.clips video')].every((v) => v.readyState >= 3)")
        visible = "[...document.querySelector('[data-player]').querySelectorAll('.clips:not([hidden]) video')]"
        assert shown.value(f"{visible}.length") == 6  # real, four rows, the exported program
        shown.wait_until(f"{visible}.every((v) => !v.paused && v.currentTime > 0.2)")
        assert (
            shown.value(f"Math.max(...{visible}.map((v) => Math.abs(v.currentTime - {visible}[0].currentTime)))") < 0.2
        )
        shown.page.keyboard.press("Tab")  # past the link to the content
        shown.page.keyboard.press("Tab")
        assert shown.value("document.activeElement.textContent") == "Pause"
        shown.page.keyboard.press("Enter")
        assert shown.value(f"{visible}.every((v) => v.paused)")
        assert shown.value("document.activeElement.textContent") == "Play"
        shown.page.locator("[data-seek]").first.fill("0.5")
        shown.wait_until(f"{visible}.every((v) => Math.abs(v.currentTime - v.duration / 2) < 0.01)")
        shown.page.locator("[data-choose]").first.select_option("1")
        assert shown.value("document.querySelectorAll('.clips[data-group=\"0\"]')[0].hidden")
        assert not shown.value("document.querySelectorAll('.clips[data-group=\"1\"]')[0].hidden")


@needs_chromium
def test_who_asks_for_less_motion_starts_the_clips(page: Path) -> None:
    with opened(page, still=True) as shown:
        shown.page.wait_for_timeout(300)
        assert shown.value("[...document.querySelectorAll('video')].every((v) => v.paused)")
        assert shown.value("document.querySelector('[data-play]').textContent") == "Play"


@needs_chromium
def test_a_figure_leads_to_its_raw_data(page: Path, run: Path) -> None:
    with opened(page) as shown:
        shown.page.get_by_role("link", name=LABELS[3], exact=True).click()
        shown.wait_until("document.getElementById('run-1-row-4').open")
        with shown.page.expect_download() as download:
            shown.page.get_by_role("link", name="03-pruning/bench.json").click()
        assert Path(download.value.path()).read_bytes() == (run / "03-pruning/bench.json").read_bytes()


def test_the_page_shows_what_the_run_found(run: Path) -> None:
    text = render([read_run(run)])
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text.replace("&lt;", "‹").replace("&gt;", "›")))
    assert "+ adversarial ‹b›finetuning" in plain and "<b>finetuning" not in text  # a name is no markup
    assert "20.0 ± 4.0" in plain and "100x fewer" in plain
    assert "8.00 ? (noisy: the samples vary by 30 %)" in plain
    assert plain.count("no phone was measured") == 1
    assert "131.5" in plain and "5.90 to 6.10" in plain
    assert "3,630" not in plain  # no published row has these steps
    assert "476" in plain  # SVD at 512x256, the published row of a lower resolution alone
    assert "1 of 12 temporal blocks are left, 1 blocks are narrowed" in text
    assert "generator&#39;s loss" in text and "its 95 % interval" in text
    assert "differs" in plain and "8 clips are few" in plain
    assert "step 60" not in text  # a log may not name a file outside its own folder
    assert text.count("data:video/mp4") == 12 + 3  # two clips of six columns, three validations
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


def test_several_runs_stand_side_by_side(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_run(tmp_path / "second", "another run", scale=2.0)
    monkeypatch.chdir(tmp_path)
    console = Console(record=True, width=200)
    report_command([run, other], console=console)
    text = (tmp_path / "report.html").read_text()
    assert '<h2 id="run-1-title">a run' in text and '<h2 id="run-2-title">another run' in text
    assert ">A1<" in text and ">B4<" in text  # points of both in one plot
    assert "a run: 4 models; another run: 4 models" in text
    assert str(other) in console.export_text()


def test_what_is_gone_leaves_its_part_empty(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for file in [*run.glob("*/clips/*"), run / "config.json", *run.glob("*/training_log.jsonl")]:
        file.unlink()
    (run / "03-pruning" / "bench.json").write_text("torn")
    text = render([read_run(run)])
    assert "kept no clips by themselves" in text and "<h2>Training" not in text and "Latency by device" not in text


def test_wrong_places_are_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give the folder of a run"):
        report_command([run / "results.json"])
    with pytest.raises(UserError, match=r"results.json: not there"):
        report_command([run, tmp_path])
    with pytest.raises(UserError, match="given twice"):
        report_command([run, run])
    thesis = tmp_path / "report.html"
    thesis.write_text("<html>my thesis</html>")
    with pytest.raises(UserError, match="is not replaced, because it is not a report of runs"):
        report_command([run], thesis)
    assert thesis.read_text() == "<html>my thesis</html>"


def test_clips_that_are_too_large_are_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilevd.report.embedded.CLIPS_BYTES", 1)
    text = render([read_run(run)])
    assert "1 further clips are in the rows" in text and text.count("data:video/mp4") == 6 + 3
