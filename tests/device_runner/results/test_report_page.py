"""The HTML page: balanced, self-contained, with every measurement's content, and nothing of a file as markup."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from device_runner.errors import RunnerError
from device_runner.results.bars import clip_segments, panels
from device_runner.results.page import render_page, write_page
from device_runner.results.plots import distribution_plot, time_plot
from device_runner.results.profile import TOP, profile_panels
from device_runner.results.svg import Scale, rectangle, svg, text, tick_texts, ticks
from tests.device_runner.results import reports

VOID = {"meta", "link", "br", "hr", "img", "input"}
REFERENCES = {"src", "href", "srcset", "data", "action", "poster", "xlink:href", "background", "formaction"}


class Page(HTMLParser):
    """Checks that elements are balanced, and notes texts, tags, references and ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._note(attrs)

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not name.startswith("on"), f"a script: {name}={value}"
            if name in REFERENCES:
                self.references.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name == "title":
                self.titles.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def full() -> dict[str, Any]:
    other = {**reports.PHONE, "name": "adb:28041FDH2", "model": "Galaxy S24"}
    return reports.report(
        reports.measurement(series=[reports.state(5010 + second / 5) for second in range(4)]),
        reports.measurement(bundle="student", precision="fp16", device=other, warnings=["noisy: 9.3 %"]),
        reports.measurement(average_ms=31.0, device=reports.HOST, runner="qnn", notes=["averages only"]),
        reports.measurement(device=reports.EMULATED),
        reports.sustained(minutes=3),
        clips=[reports.clip(), reports.clip(device="adb:qemu", emulated=True)],
        failures=[reports.failure(program="vae_decoder"), reports.failure("gone", program=None)],
    )


def test_every_measurement_is_there(tmp_path: Path) -> None:
    write_page(full(), tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    for told in (
        "5 measurements, 4 devices, 2026-03-01 12:00:00 UTC",
        "adb:R58M123 (Pixel 8 Pro, Tensor G3)",
        "google/husky/husky:15/AP4A.250205.002/12821496:user/release-keys",
        "vae_decoder of tiny on adb:R58M123: adb:R58M123: the device is offline",
        "tiny on adb:R58M123: gone",
        "noisy: 9.3 %",
        "emulated: outputs right, no latency",
        "averages only",
        "first minute 300 ms, last minute 360 ms (1.20 times); throttled after 127 s",
        "550 ms for a clip 39.2 ms per frame",
        "executorch-xnnpack, fp32, on adb:R58M123, 14 frames at 7 fps, sum of p50",
        "9 × sched_pixel",
        "4 × 1.45, 4 × 2.32, 2.90",
        "2 (moderate)",
        "runner built for ndk ran on cores 1ff",
        "61.2 dB (at least 35 dB)",
    ):
        assert told in page.text, told
    assert "noisy , 1 of 5 measurements: 9.3 %" in page.text  # by its cause; in full with the measurement
    assert page.tags.count("svg") == 6  # two for each measurement with samples
    assert {"m0", "m1", "m2", "m3", "m4"} <= set(page.ids)


def test_a_profile_is_drawn_with_the_measurement_it_is_of() -> None:
    bad = "</div><script>alert(1)</script>"
    profile = reports.profile()
    profile["by_operator"][1]["operator"] = bad
    measured = [reports.measurement(), reports.measurement(bundle="traced", profile=profile)]
    del measured[0]["profile"]
    page = Page(render_page([reports.report(*measured)]))
    assert page.text.count("Where the time goes") == 1
    assert "12.0 ms in a traced run of its own, median of 3" in page.text
    for told in ("up_blocks.1 6.00 ms 50.0 %", "residual block, spatial 7.00 ms 58.3 %", f"{bad} 1.00 ms 8.3 %"):
        assert told in page.text, told
    assert "script" not in page.tags and "No times by block" not in page.text
    profile.update(by_block=None, by_part=None, by_block_reason="no places")
    page = Page(render_page([reports.report(*measured)]))
    assert "No times by block: no places." in page.text and "By operator" in page.text
    assert "By block" not in page.text and "By part" not in page.text


def test_the_bars_of_a_profile_add_up_to_its_whole_time() -> None:
    profile = reports.profile()
    profile["by_block"] = [{"block": f"b{index}", "ms": 0.75, "share": 0.0625, "count": 1} for index in range(TOP + 4)]
    panels = profile_panels(profile)
    assert [panel.title for panel in panels] == ["By block", "By part of blocks", "By operator"]
    for panel in panels:
        assert sum(bar.ms for bar in panel.bars) == pytest.approx(12.0)
        assert sum(bar.share for bar in panel.bars) == pytest.approx(1.0)
        assert max(bar.width for bar in panel.bars) == 100
    blocks, _, operators = ([(bar.name, bar.ms) for bar in panel.bars if bar.rest] for panel in panels)
    assert blocks == [("other blocks", 3.0), ("in no operator's time", 3.0)]
    assert operators == [("other operators", 3.0), ("in no operator's time", 3.0)]
    profile["by_part"] = profile["by_part"][:1]
    assert [panel.title for panel in profile_panels(profile)] == ["By block", "By operator"]


def test_the_page_needs_nothing_else() -> None:
    source = render_page([full()])
    page = Page(source)
    assert page.references and all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?:|javascript:", source, re.IGNORECASE)
    assert "default-src 'none'" in source


def test_names_of_files_and_devices_are_no_markup() -> None:
    bad = "<script>alert(1)</script>\"'&amp;{{ 7 * 7 }}"
    device = {**reports.PHONE, "name": bad, "model": bad, "cpu": bad}
    state = {**reports.state(5010.2), "temperatures_c": {bad: 40.0}, "governors": [bad]}
    later = {**state, "uptime_s": 5010.4}
    measured = [
        reports.measurement(
            bundle=bad,
            precision=bad,
            program=bad,
            device=device,
            warnings=[bad],
            notes=[bad],
            series=[state, later],
            state_before=state,
            versions={bad: bad},
        )
        for _ in range(2)
    ]
    clip = {**reports.clip(bad, bad), "programs": [{"name": bad, "runs": 1, "ms": 2.0}]}
    failure = {"bundle": bad, "device": bad, "program": bad, "error": bad}
    page = Page(render_page([reports.report(*measured, clips=[clip], failures=[failure])]))
    assert "script" not in page.tags and page.tags.count("svg") == 4
    assert page.text.count(bad) > 20
    assert any(bad in title for title in page.titles)  # quotes do not end an attribute


def test_nothing_measured_is_a_page_too() -> None:
    page = Page(render_page([reports.report(failures=[reports.failure()])]))
    assert "0 measurements" in page.text and "the device is offline" in page.text
    assert "svg" not in page.tags


def test_several_reports_share_a_page() -> None:
    later = reports.report(reports.measurement(bundle="later"), created="2026-03-02T08:00:00+00:00")
    page = Page(render_page([reports.report(reports.measurement()), later]))
    assert "2 measurements, 1 device, 2026-03-01 12:00:00 UTC, 2026-03-02 08:00:00 UTC" in page.text
    assert "Side by side" in page.text and "later (int8-dynamic)" in page.text


def test_ten_long_measurements_stay_small() -> None:
    series = [reports.state(5010 + second, 30 + second / 9) for second in range(0, 60, 5)]
    long = [
        reports.measurement(reports.latencies(seed, 1024, 60.0), protocol="mlperf-single-stream", series=series)
        for seed in range(10)
    ]
    assert len(render_page([reports.report(*long)]).encode()) < 300_000


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="page.html: cannot be written"):
        write_page(full(), tmp_path / "none" / "page.html")


def bar_counts(drawn: str) -> list[int]:
    return [int(count) for count in re.findall(r"ms: (\d+)</title>", drawn)]


@pytest.mark.parametrize(
    "samples",
    [reports.latencies(1, 2, 40.0), reports.latencies(1, 20, 40.0), reports.latencies(1, 5000, 0.02), [7.0] * 20],
)
def test_the_histogram_counts_every_sample(samples: list[float]) -> None:
    plot = distribution_plot(samples)
    outside = re.search(r"(\d+) runs? above", plot.caption)
    assert sum(bar_counts(plot.svg)) + (int(outside[1]) if outside else 0) == len(samples)
    assert len(bar_counts(plot.svg)) <= 40


def test_samples_far_off_are_counted_not_drawn_to_scale() -> None:
    samples = reports.latencies(1, 50, 40.0)
    samples[7], samples[9] = 400.0, 300.0
    plot = distribution_plot(samples)
    assert sum(bar_counts(plot.svg)) == 48 and "2 runs above" in plot.caption and "up to 400 ms" in plot.caption
    over_time = time_plot(reports.measurement(samples))
    assert over_time.svg.count('class="outlier"') == 2 and "2 runs above" in over_time.caption


def path(drawn: str, style: str) -> list[tuple[float, float]]:
    found = re.search(f'class="{style}" d="([^"]+)"', drawn)
    assert found, style
    numbers = [float(value) for value in re.findall(r"-?[\d.]+", found[1].replace("h0", ""))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_temperatures_and_samples_share_the_time_axis() -> None:
    """20 samples of 0.5 s from uptime 5010 s on: a state at 5012 s lies above the fifth."""
    series = [reports.state(uptime) for uptime in (5000.0, 5012.0, 5014.0, 5099.0)]
    plot = time_plot(reports.measurement([500.0] * 20, series=series))
    fifth_x, seventh_x = (path(plot.svg, "dots")[index][0] for index in (4, 8))
    assert [x for x, _ in path(plot.svg, "series s1")] == [fifth_x, seventh_x]
    names = [name for _, name in plot.legend]
    assert names == [
        "BIG (°C, last 43)",
        "LITTLE (°C, last 39)",
        "gpu (°C, last 33)",
        "battery (°C, last 30)",
        "cores 0 to 3 (GHz, last 1.45)",
        "cores 4 to 7 (GHz, last 2.32)",
        "core 8 (GHz, last 2.90)",
    ]


def test_states_without_the_samples_times_are_not_drawn() -> None:
    series = [reports.state(5010.5)]
    unknown: list[dict[str, Any]] = [{"starts_s": []}, {"first_start_uptime_s": None}]
    for missing in unknown:
        plot = time_plot(reports.measurement([500.0] * 20, series=series, **missing))
        assert plot.legend == [] and "does not tell when its runs started" in plot.caption


def test_a_device_that_tells_little_is_drawn() -> None:
    series = [{**reports.bare_state(), "uptime_s": 5010.0 + second} for second in range(5)]
    plot = time_plot(reports.measurement([500.0] * 20, series=series))
    assert plot.legend == [] and "series" not in plot.svg
    Page(render_page([reports.report(reports.measurement([500.0] * 20, series=series, state_before=series[0]))]))


def test_many_samples_become_a_band() -> None:
    plot = time_plot(reports.sustained(minutes=3))
    assert 'class="band"' in plot.svg and 'class="dots' not in plot.svg
    assert 'class="throttled"' in plot.svg
    assert len(plot.svg) < 15_000


def test_bars_are_shares_of_the_longest() -> None:
    slow, fast = reports.measurement([40.0] * 20), reports.measurement([10.0] * 20, device=reports.HOST)
    decoder = reports.measurement(program="decoder")
    unet, other = panels([fast, slow, decoder, reports.measurement(device=reports.EMULATED)])
    assert (unet.program, other.program) == ("unet", "decoder")
    assert [(bar.middle, bar.low, bar.p90) for bar in unet.bars] == [(25, 25, 25), (100, 100, 100), (None, None, None)]
    assert len({bar.colour for bar in unet.bars}) == 3 and unet.bars[2].told.startswith("emulated")


def test_parts_of_a_clip_add_up() -> None:
    segments = clip_segments(reports.clip())
    assert sum(part.percent for part in segments) == pytest.approx(100, abs=0.05)
    assert segments[-1].total_ms == 14 * 31
    assert {part.percent for part in clip_segments(reports.clip(emulated=True))} == {0}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (39.4, 44.2, ["40", "41", "42", "43", "44"]),
        (0.0112, 0.0131, ["0.0115", "0.0120", "0.0125", "0.0130"]),
        (0, 1_250_000, ["0", "200k", "400k", "600k", "800k", "1000k", "1200k"]),
        (900, 12100, ["2000", "4000", "6000", "8000", "10000", "12000"]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[str]) -> None:
    assert tick_texts(ticks(low, high)) == expected


def test_words_in_plots_are_no_markup() -> None:
    drawn = svg(9, 9, '"<i>', text(0, 0, "<b>") + rectangle(0, 0, 1, 1, "bar", "</title>"))
    assert not re.search("<[ib]>|</title></title>", drawn) and 'aria-label="&quot;&lt;i&gt;"' in drawn


def test_a_scale_ends_at_its_edges() -> None:
    scale = Scale(10, 20, 100, 0)
    assert [scale.at(value) for value in (10, 15, 20, 99, -5)] == [100, 50, 0, 0, 100]
