"""Nothing is ever seen half written: not after an exception, a kill, or a full disk."""

from __future__ import annotations

import errno
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobilevd.errors import UserError
from mobilevd.files import (
    atomic_file,
    atomic_folder,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    recover_folder,
    sha256_file,
)
from mobilevd.places import only

ALL = only("*")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    atomic_write_text(path, "1")
    atomic_write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert names(path.parent) == ["a.txt"]
    atomic_write_json(tmp_path / "a.json", {"a": [1.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None]}
    with pytest.raises(ValueError, match="Out of range float"):
        atomic_write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None]}


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the first example of FIPS 180-2
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".txt"  # writers choose the format by it
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_folder(path, ALL) as temporary:
        (temporary / "old").write_text("1")
    with atomic_folder(path, ALL) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new").write_text("2")
        assert names(path) == ["old"]
    assert names(path) == ["sub"]
    assert names(tmp_path) == ["model"]


def test_an_exception_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_folder(path, ALL) as temporary:
        (temporary / "old").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(path, ALL) as temporary:
        (temporary / "half").write_text("2")
        raise RuntimeError
    assert names(path) == ["old"]
    assert names(tmp_path) == ["model"]


WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
from mobilevd.files import atomic_folder, atomic_write_text
from mobilevd.places import only

root = Path(sys.argv[1])
for number in itertools.count(1):
    atomic_write_text(root / "file", f"{number} " * 5000)
    with atomic_folder(root / "folder", only("[abcd]")) as folder:
        for name in "abcd":
            (folder / name).write_text(str(number))
    print(number, flush=True)
"""


def test_sigkill_at_any_instant(tmp_path: Path) -> None:
    """Killed at eight instants: file and folder are always whole, and never older than reported."""
    for attempt in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOREVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()  # both are there
        time.sleep(0.0037 * attempt)
        child.send_signal(signal.SIGKILL)
        reported = 1
        for line in child.stdout:
            reported = int(line)
        child.wait()
        words = (tmp_path / "file").read_text().split()
        assert len(words) == 5000 and len(set(words)) == 1
        recover_folder(tmp_path / "folder")
        contents = {(tmp_path / "folder" / name).read_text() for name in "abcd"}
        assert len(contents) == 1
        assert int(contents.pop()) >= reported and int(words[0]) >= reported
    recover_folder(tmp_path / "folder")
    left = [name for name in names(tmp_path) if not name.startswith(".tmp-")]
    assert left == ["file", "folder"]


def test_a_kill_between_the_two_renames(tmp_path: Path) -> None:
    """The only instant without a folder: the old one is put back, then the next writer succeeds."""
    path = tmp_path / "model"
    old = tmp_path / ".old-0123456789abcdef-model"
    old.mkdir()
    (old / "old").write_text("1")
    (tmp_path / ".tmp-0123456789abcdef-model").mkdir()
    recover_folder(path)
    assert names(tmp_path) == ["model"] and names(path) == ["old"]
    recover_folder(path)  # again: nothing to do
    assert names(path) == ["old"]


def test_a_kill_after_the_two_renames(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "new").write_text("2")
    (tmp_path / ".old-0123456789abcdef-model").mkdir()
    recover_folder(tmp_path / "model")
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["new"]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 64 KiB; skipped where mounting is not allowed."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk(small_disk: Path) -> None:
    path = small_disk / "a.bin"
    atomic_write_bytes(path, b"old")
    with pytest.raises(UserError, match="a.bin: the disk is full"):
        atomic_write_bytes(path, bytes(1 << 20))
    assert path.read_bytes() == b"old"
    assert names(small_disk) == ["a.bin"]
    with (
        pytest.raises(UserError, match="model: the disk is full"),
        atomic_folder(small_disk / "model", ALL) as folder,
    ):
        (folder / "weights").write_bytes(bytes(1 << 20))
    assert names(small_disk) == ["a.bin"]
    atomic_write_bytes(path, b"new")  # usable again
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_device_without_space(tmp_path: Path) -> None:
    """The system's own ENOSPC, where no small disk can be mounted."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(UserError, match="a.bin: the disk is full"), atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        Path("/dev/full").write_bytes(b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]
    atomic_write_bytes(path, b"new")  # usable again
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # as safetensors says it
    ],
)
def test_a_full_disk_from_a_library(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(UserError, match="the disk is full"), atomic_file(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert names(tmp_path) == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    """A limit on the size of a file is no full disk; the old content stays all the same."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(OSError) as error:
            atomic_write_bytes(path, bytes(4096))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert error.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a.bin"]
