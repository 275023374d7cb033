"""The browser of the tests sees what it is there to see."""

from __future__ import annotations

from pathlib import Path

from tests.browser import PHONE, needs_chromium, opened

PAGE = """<!doctype html><html lang="en"><title>A page</title>
<style>@media (prefers-color-scheme: dark) { body { background: rgb(1, 2, 3); } }</style>
<main><h1>A page</h1><img src="none.png" width="800" height="10"></main><script>undefinedFunction()</script></html>"""


@needs_chromium
def test_faults_of_a_page_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(PAGE)
    with opened(file, PHONE, dark=True) as page:
        assert any("undefinedFunction" in complaint for complaint in page.complaints)
        assert [Path(address).name for address in page.fetched] == ["none.png"]
        assert page.hangs_over > 0
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(1, 2, 3)"
        assert "image-alt" in {found.split(":")[0] for found in page.violations()}
