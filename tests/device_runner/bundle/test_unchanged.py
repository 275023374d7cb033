"""A bundle that is written to while it is measured gives no result; what decides a run decides its job's key."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_runner.bundle import hashes
from device_runner.bundle.hashes import sha256_of, sha256_once, stamp_of
from device_runner.bundle.read import Bundle, read_bundle
from device_runner.bundle.unchanged import check_unchanged
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, Progress, RawJob, Ready
from device_runner.errors import RunnerError
from device_runner.measure.make_job import make_job
from device_runner.measure.measure import Measurement, measure_program
from device_runner.protocol.protocol import Protocol
from device_runner.runners.deployment import NDK, Deployment, host_deployment
from device_runner.runners.mobilevd import MobilevdRunner

SHORT = Protocol(warmup=1, iterations=3, threads=1)
Edit = Callable[[Path], Any]


class Meddler(HostDevice):
    """This machine, on which something happens to the bundle before or after the run."""

    def __init__(self, before: Callable[[], Any] = lambda: None, after: Callable[[], Any] = lambda: None) -> None:
        self.before, self.after = before, after

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        self.before()
        raw = super().run(job, output_dir, ready, progress)
        self.after()
        return raw


def rename_into_place(file: Path, data: bytes) -> None:
    """As an export does."""
    new = file.with_name("new")
    new.write_bytes(data)
    new.replace(file)


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files had been written long ago, so that stamps vouch for contents."""
    monkeypatch.setattr(hashes, "SETTLED_NS", -(10**18))


def measured(bundle: Bundle, runner: Path, device: HostDevice) -> Measurement:
    return measure_program(bundle, bundle.program("unet"), device, SHORT, MobilevdRunner(host_deployment(runner)))


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("unet.pte", lambda file: rename_into_place(file, file.read_bytes() + b"\0")),
        ("unet.pte", lambda file: rename_into_place(file, file.read_bytes()[:-1] + b"\7")),
        ("reference/unet.latents.bin", lambda file: rename_into_place(file, bytes(4096))),
        ("reference/unet.latents.bin", lambda file: file.unlink()),
        ("reference/unet.image.bin", lambda file: rename_into_place(file, bytes(3072))),
        ("manifest.json", lambda file: file.write_text(file.read_text() + "\n")),
        ("manifest.json", lambda file: file.unlink()),
        ("unet.pte.data", lambda file: file.write_bytes(b"weights")),
    ],
)
def test_a_bundle_that_changes_while_it_is_measured_is_refused(
    runner: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, settled: bool, name: str, edit: Edit
) -> None:
    if settled:
        settle(monkeypatch)
    loaded = read_bundle(bundle)
    with pytest.raises(RunnerError) as caught:
        measured(loaded, runner, Meddler(after=lambda: edit(bundle / name)))
    assert str(caught.value).startswith(f"{bundle / name}: was changed after the bundle was read")
    assert "\n" not in str(caught.value)


def test_another_program_and_its_references_are_no_measurement_of_the_first(runner: Path, bundle: Path) -> None:
    """Everything fits together, as after a second export into the folder: only the identity is another one."""
    loaded = read_bundle(bundle)

    def export_again() -> None:
        rename_into_place(bundle / "unet.pte", (bundle / "unet.pte").read_bytes() + bytes(16))

    with pytest.raises(RunnerError, match=r"unet\.pte: was changed after the bundle was read"):
        measured(loaded, runner, Meddler(before=export_again))


def test_a_change_that_keeps_size_and_time_is_noticed(bundle: Path) -> None:
    """Whoever sets a file's time back cannot set back when that was done."""
    loaded = read_bundle(bundle)
    file = bundle / "reference" / "unet.scale.bin"
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RunnerError, match=r"unet\.scale\.bin: was changed"):
        check_unchanged(loaded, loaded.program("unet"))


def test_the_same_content_written_again_is_no_change(runner: Path, bundle: Path) -> None:
    loaded = read_bundle(bundle)
    file = bundle / "unet.pte"
    result = measured(loaded, runner, Meddler(after=lambda: rename_into_place(file, file.read_bytes())))
    assert result.bundle["sha256"] == loaded.sha256


def test_nothing_is_hashed_twice_where_stamps_vouch_for_it(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    loaded = read_bundle(bundle)
    hashed: list[Path] = []
    monkeypatch.setattr(hashes, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    check_unchanged(loaded, loaded.program("unet"))
    assert hashed == []
    os.utime(bundle / "unet.pte")
    check_unchanged(loaded, loaded.program("unet"))
    assert hashed == [bundle / "unet.pte"]


def test_a_fresh_stamp_vouches_for_nothing(tmp_path: Path) -> None:
    """A second change within a clock tick of the file system leaves the same stamp."""
    (tmp_path / "file").write_bytes(b"a")
    assert not stamp_of(tmp_path / "file").settled
    long_ago = replace(stamp_of(tmp_path / "file"), modified_ns=0, changed_ns=0)
    assert long_ago.settled


def test_weights_beside_a_program_must_be_listed(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    (bundle / "unet.pte.data").write_bytes(b"weights")
    with pytest.raises(RunnerError, match=r"programs\.unet\.file 'unet\.pte\.data' is not listed under files"):
        read_bundle(bundle)
    edit_manifest(rehash=True)
    loaded = read_bundle(bundle)
    job = make_job(loaded, loaded.program("unet"), SHORT, MobilevdRunner(Deployment(("runner",))))
    assert job.files["unet.pte.data"] == bundle / "unet.pte.data"
    assert job.sha256["unet.pte.data"] == sha256_of(bundle / "unet.pte.data")


def test_a_file_has_one_name_in_the_manifest(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        manifest["files"]["./unet.pte"] = manifest["files"].pop("unet.pte")

    edit_manifest(rename)
    with pytest.raises(RunnerError, match=r"'\./unet\.pte' must be written 'unet\.pte'"):
        read_bundle(bundle)


def test_the_size_of_a_program_is_the_manifests(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert read_bundle(bundle).program("unet").size_bytes == manifest["files"]["unet.pte"]["size_bytes"]


def test_every_file_of_a_job_decides_its_key(bundle: Path, tmp_path: Path) -> None:
    loaded = read_bundle(bundle)
    (binary := tmp_path / "runner").write_bytes(b"one")
    deployment = Deployment(("runner",), form=NDK, files={"runner": binary})

    def job(deployment: Deployment) -> Job:
        return make_job(loaded, loaded.program("unet"), SHORT, MobilevdRunner(deployment))

    first = job(deployment)
    assert set(first.sha256) == set(first.files) and first.sha256["runner/runner"] == sha256_of(binary)
    assert job(deployment).key == first.key
    assert job(replace(deployment, form="glibc")).key != first.key
    binary.write_bytes(b"two")
    second = job(deployment)
    assert second.key != first.key and second.sha256["runner/runner"] == sha256_of(binary)
    binary.unlink()
    with pytest.raises(RunnerError, match="runner: a file of the runner cannot be read: No such file"):
        job(deployment)


def test_a_runners_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    (file := tmp_path / "library").write_bytes(b"one")
    expected = sha256_of(file)
    hashed: list[Path] = []
    monkeypatch.setattr(hashes, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    assert [sha256_once(file) for _ in range(3)] == [expected] * 3 and hashed == [file]
    shutil.copy(file, tmp_path / "new")
    (tmp_path / "new").replace(file)
    assert sha256_once(file) == expected and hashed == [file, file]
