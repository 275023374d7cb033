"""Refuses a result if the bundle was written to meanwhile: nobody can know any more which of the two contents ran."""

from __future__ import annotations

import hashlib

from device_runner.bundle.hashes import changed_since
from device_runner.bundle.manifest import MANIFEST
from device_runner.bundle.read import Bundle, BundleProgram, program_files
from device_runner.errors import RunnerError


def check_unchanged(bundle: Bundle, program: BundleProgram) -> None:
    """Check that the manifest, the program, its inputs and its references are still those that `read_bundle` checked.

    Call it after a run and its checks: devices read the bundle's files while they run, the host in place. Raises
    `RunnerError` naming the first file that changed.
    """
    manifest = bundle.folder / MANIFEST
    try:
        same = hashlib.sha256(manifest.read_bytes()).hexdigest() == bundle.sha256
    except OSError:
        same = False
    if not same:
        raise _changed(MANIFEST, bundle)
    inside = f"{bundle.name_of(program.file)}/"
    now = [bundle.name_of(path) for path in program_files(program.file)]
    then = [name for name in bundle.files if name.startswith(inside)]
    tensors = [bundle.name_of(tensor.file) for tensor in (*program.inputs, *program.outputs)]
    for name in dict.fromkeys((*now, *then, *tensors)):
        if name not in bundle.files or changed_since(bundle.folder / name, bundle.files[name]):
            raise _changed(name, bundle)


def _changed(name: str, bundle: Bundle) -> RunnerError:
    return RunnerError(
        f"{bundle.folder / name}: was changed after the bundle was read, so nothing that was measured counts; measure it "
        "again, and export to another folder meanwhile"
    )
