"""The page in a browser: nothing cut on a phone, both colour schemes, by keyboard; figures before warnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_runner.results.overview import causes_of, groups_of
from device_runner.results.page import write_page
from tests.browser import PHONE, WIDE, OpenedPage, needs_chromium, opened
from tests.device_runner.results import reports

GALAXY = {**reports.PHONE, "name": "adb:28041FDH200ABC", "model": "Galaxy S24 Ultra", "soc": "Snapdragon 8 Gen 3"}
BUSY = "busy: before the start the load average was {} on 9 cores; other programs were running"
LONG = "mobilevd-smoke-funnels-pruned-64x64"


def long_names() -> Iterator[dict[str, Any]]:
    for device in (reports.PHONE, GALAXY):
        for precision in ("fp32", "int8-static-per-channel"):
            for program in ("image_encoder", "unet", "vae_decoder"):
                warnings = [] if precision == "fp32" else [BUSY.format(7 if device is GALAXY else 6)]
                yield reports.measurement(
                    bundle=LONG,
                    precision=precision,
                    program=program,
                    device=device,
                    warnings=warnings,
                    series=[reports.state(5010 + second / 5) for second in range(4)],
                    profile=reports.profile() if program == "unet" else None,
                )


def full() -> dict[str, Any]:
    return reports.report(
        *long_names(),
        reports.measurement([12034.5] * 20, bundle="a" * 80, program="p" * 60, precision="q" * 60),
        reports.measurement(average_ms=31.0, device=reports.HOST, runner="qnn", warnings=["odd"]),
        reports.measurement(device=reports.EMULATED),
        reports.sustained(minutes=3),
        clips=[reports.clip(), reports.clip(device="adb:qemu", emulated=True)],
        failures=[reports.failure(program="vae_decoder"), reports.failure("gone", program=None)],
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_page(full(), file)
    return file


CUT = """[...document.querySelectorAll('main *')]
    .filter((each) => !each.closest('thead'))
    .filter((each) => each.getBoundingClientRect().right > innerWidth + 0.5
        || (each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX !== 'visible'))
    .map((each) => `${each.tagName} ${each.textContent.slice(0, 40)}`).slice(0, 5)"""
"""Elements that reach over the window's edge, or whose content is cut or scrolled."""


def open_details(shown: OpenedPage) -> None:
    shown.value("document.querySelectorAll('details').forEach((each) => (each.open = true))")


@needs_chromium
@pytest.mark.parametrize(
    ("size", "dark"),
    [(WIDE, False), (WIDE, True), (PHONE, False), (PHONE, True), ((700, 900), False), ((320, 640), True)],
)
def test_nothing_is_amiss_at_any_width(page: Path, size: tuple[int, int], dark: bool) -> None:
    with opened(page, size, dark) as shown:
        open_details(shown)
        assert shown.hangs_over == 0
        assert shown.value(CUT) == []
        assert shown.violations() == []
        assert shown.complaints == [] and shown.fetched == []


@needs_chromium
def test_the_dark_scheme_is_dark(page: Path) -> None:
    with opened(page, dark=True) as shown:
        colour = shown.value("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 150


@needs_chromium
def test_a_phone_shows_every_number_of_a_row_with_its_name(page: Path) -> None:
    row = "document.querySelector('.overview tbody tr')"
    with opened(page, PHONE) as shown:
        labels = f"[...{row}.querySelectorAll('td.n')].map((each) => getComputedStyle(each, '::before').content)"
        assert shown.value(labels) == ['"p50, ms"', '"p90"', '"variation"', '"load, ms"', '"peak, MiB"']
        assert shown.value(f"[...{row}.children].every((each) => each.offsetWidth > 20 && each.offsetHeight > 10)")
        # the roles say to a screen reader that it is still a table
        assert shown.page.get_by_role("columnheader", name="variation").count() >= 1
        assert shown.page.get_by_role("row").count() > 10
    with opened(page, WIDE) as shown:
        assert shown.value(f"getComputedStyle({row}).display") == "table-row"
        assert shown.value(labels)[0] == "none"


@needs_chromium
def test_figures_come_before_what_is_wrong_with_them(page: Path) -> None:
    with opened(page, PHONE) as shown:
        tops = [
            shown.value(f"document.querySelector('{which}').getBoundingClientRect().top")
            for which in (".overview", "#failures", "#warnings", ".panels")
        ]
        assert tops == sorted(tops) and tops[0] < PHONE[1] / 2


@needs_chromium
def test_a_cause_opens_by_keyboard_with_the_focus_in_sight(page: Path) -> None:
    with opened(page) as shown:
        for _ in range(80):
            shown.page.keyboard.press("Tab")
            if shown.value("document.activeElement.tagName") == "SUMMARY":
                break
        assert shown.value("document.activeElement.textContent").startswith("busy, 6 of 16 measurements")
        assert shown.value("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
        assert shown.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        shown.page.keyboard.press("Enter")
        assert shown.value("document.activeElement.parentElement.querySelectorAll('li').length") == 6
        shown.page.keyboard.press("Tab")
        shown.page.keyboard.press("Enter")
        assert shown.value("location.hash") == "#m3"


def test_warnings_are_gathered_by_cause() -> None:
    measured = [
        reports.measurement(warnings=["noisy: 9 %", "busy: 6"]),
        reports.measurement(warnings=["busy: 6", "odd"]),
        reports.measurement(warnings=["throttled: a", "throttled: b"]),
    ]
    assert causes_of(measured) == [
        ("busy", "6", [(0, "6"), (1, "6")]),
        ("noisy", "9 %", [(0, "9 %")]),
        ("odd", "", [(1, "")]),
        ("throttled", None, [(2, "a"), (2, "b")]),
    ]


def test_only_comparable_figures_share_a_table() -> None:
    measured = [
        reports.measurement(),
        reports.measurement(device=GALAXY),
        reports.measurement(program="decoder"),
        reports.measurement(protocol="thorough"),
        reports.measurement(average_ms=3.0),
        reports.measurement(device=reports.EMULATED),
    ]
    groups = groups_of(measured)
    assert [group.indices for group in groups] == [[0, 2], [1], [3], [4], [5]]
    assert groups[0].device == "adb:R58M123 (Pixel 8 Pro, Tensor G3)"
    assert groups[0].protocol == "protocol quick, 2 threads, runner mobilevd"
    assert [group.figure for group in groups] == ["p50", "p50", "p50", "mean", None]
