"""Published weights are listed, downloaded when asked by name, and kept only if they are what was published."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mobilevd.commands.weights as weights_module
from eval.weights import WEIGHTS, WeightFile
from mobilevd.cli import app

CONTENT = b"weights" * 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "net.pt").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/short.pt":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x" * 10)
            else:
                super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()
        thread.join()


def ask(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str, sha256: str | None) -> tuple[int, str]:
    monkeypatch.setitem(WEIGHTS, "net", WeightFile("net", "net.pt", url, sha256, None, "nobody"))
    result = CliRunner().invoke(app, ["weights", "net", "--to", str(folder)], env={"COLUMNS": "300"})
    return result.exit_code, result.output


def test_it_lists_them() -> None:
    result = CliRunner().invoke(app, ["weights"])
    assert result.exit_code == 0
    assert all(each.url in result.output and each.file_name in result.output for each in WEIGHTS.values())


@pytest.mark.parametrize("known", [True, False])
def test_a_download_is_kept_and_its_hash_told(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    code, output = ask(monkeypatch, tmp_path / "to", f"{server}/net.pt", sha256 if known else None)
    assert code == 0 and sha256 in output and ("as published" in output) == known
    assert (tmp_path / "to" / "net.pt").read_bytes() == CONTENT
    monkeypatch.setattr(weights_module, "download", lambda *_: pytest.fail("downloaded again"))
    assert "there already" in ask(monkeypatch, tmp_path / "to", f"{server}/net.pt", sha256)[1]


def test_what_is_not_the_published_file_is_not_kept(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "to"
    for path, message in (
        ("net.pt", "published is 0000"),
        ("short.pt", "10 of 1000 bytes"),
        ("missing.pt", "cannot be downloaded: "),
    ):
        code, output = ask(monkeypatch, folder, f"{server}/{path}", "0" * 64)
        assert code == 2 and message in output and len(output.strip().splitlines()) == 1, output
        assert list(folder.glob("*")) == []


def test_a_file_of_the_name_that_is_another_is_left_alone(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.pt").write_bytes(b"mine")
    code, output = ask(monkeypatch, tmp_path, f"{server}/net.pt", "0" * 64)
    assert code == 2 and "not the published net.pt" in output
    assert (tmp_path / "net.pt").read_bytes() == b"mine"


def test_an_unknown_name_lists_the_known() -> None:
    result = CliRunner().invoke(app, ["weights", "fvd"])
    assert result.exit_code == 2 and "i3d-torchscript" in result.output
