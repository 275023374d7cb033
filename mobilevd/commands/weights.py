"""`mobilevd weights`: the published networks of the distances; downloads one when asked by name, and checks its hash."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from eval.weights import WEIGHTS, WeightFile, check_hash
from mobilevd.errors import UserError
from mobilevd.files import atomic_file
from mobilevd.terminal import TerminalConsole

PIECE_BYTES = 1 << 20
SILENCE_S = 60.0
"""Silence of the server after which a download is given up."""


def weights_command(name: str | None, folder: Path, console: Console | None = None) -> None:
    """List the published weights, or download those of `name` into a folder.

    Raises UserError for an unknown name, a file that is there and is another, a server that cannot be reached or ends
    early, and a file whose SHA-256 is not the published one; what came of it is removed.
    """
    console = console or TerminalConsole()
    if name is None:
        for each in WEIGHTS.values():
            size = f"{each.size_bytes / 1e6:.0f} MB" if each.size_bytes else "size not known"
            line(console, f"{each.name}: {each.file_name}, {size}; {each.source}\n  {each.url}")
        return
    if name not in WEIGHTS:
        raise UserError(f"weights {name!r}: unknown; there are {', '.join(WEIGHTS)}")
    file, weights = folder / WEIGHTS[name].file_name, WEIGHTS[name]
    if file.exists():
        line(console, f"{file}: there already, SHA-256 {check_hash(file, weights)}")
        return
    with atomic_file(file) as temporary:
        sha256 = download(weights, temporary, console)
        if weights.sha256 not in (None, sha256):
            raise UserError(f"{weights.url}: gave a file of SHA-256 {sha256}, published is {weights.sha256}: not kept")
    known = "as published" if weights.sha256 else "no published hash is known: compare it with another copy's"
    line(console, f"{file}: SHA-256 {sha256}, {known}")


def download(weights: WeightFile, file: Path, console: Console) -> str:
    """Write what the server gives into a file; return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(weights.url, timeout=SILENCE_S) as answer, file.open("wb") as out:
            total = int(answer.headers.get("Content-Length") or weights.size_bytes or 0)
            with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
                task = bars.add_task(weights.file_name, total=total or None)
                while piece := answer.read(PIECE_BYTES):
                    done += out.write(piece)
                    digest.update(piece)
                    bars.update(task, completed=done)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{weights.url}: cannot be downloaded: {reason}; get {weights.file_name} by hand") from None
    if total and done != total:
        raise UserError(f"{weights.url}: ended after {done} of {total} bytes; try again")
    return digest.hexdigest()


def line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
