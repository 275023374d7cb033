"""Bundles from strangers: nothing is looked at before its name was checked, and nothing lies in one that is not listed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_runner.bundle.hashes import sha256_of
from device_runner.bundle.read import read_bundle
from device_runner.errors import RunnerError

Change = Callable[[dict[str, Any]], Any]


def changed(bundle: Path, change: Change) -> Path:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    return bundle


def refused(bundle: Path, text: str) -> None:
    with pytest.raises(RunnerError, match=text) as error:
        read_bundle(bundle)
    assert len(str(error.value).splitlines()) == 1


def program(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["programs"]["unet"]


@pytest.mark.parametrize(
    "name",
    [
        "/",
        "/etc",
        "..",
        "../other",
        "a/../../b",
        "C:/x",
        "\\\\server\\x",
        "",
        "./unet.pte",
        "a//b",
        "nul\0",
        "a\nb",
        "a" * 300,
    ],
)
@pytest.mark.parametrize("where", ["program", "input", "output", "files"])
def test_names_are_checked_before_the_disk_is_touched(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    def set_name(manifest: dict[str, Any]) -> None:
        if where == "files":
            manifest["files"][name] = {"size_bytes": 1, "sha256": "0" * 64}
        else:
            entry = program(manifest)
            (entry if where == "program" else entry[f"{where}s"][0])["file"] = name

    changed(bundle, set_name)

    def walked(*_: Any, **__: Any) -> Any:
        raise AssertionError("the disk was walked")

    monkeypatch.setattr(Path, "rglob", walked)
    monkeypatch.setattr(os, "walk", walked)
    refused(bundle, "leaves the bundle|must be written|is no name of a file|must not be empty")


def test_what_is_not_listed_is_named(bundle: Path) -> None:
    read_bundle(bundle)
    (bundle / ".DS_Store").write_text("put there by a file manager")
    read_bundle(bundle)
    for name in ("more.data", "notes.txt", "deep/more.bin"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("weights of somebody else")
        refused(bundle, f"{name}: is not listed in manifest.json, so its content cannot be checked; remove it")
        (bundle / name).unlink()
    (bundle / "link").symlink_to("/etc")
    refused(bundle, "link: is not listed")


def test_a_program_folder_holds_no_links(bundle: Path) -> None:
    package = bundle / "unet.mlpackage"
    package.mkdir()
    (package / "model").write_text("a")
    (package / "weights").symlink_to("model")
    entry = {"size_bytes": 1, "sha256": sha256_of(package / "model")}

    def package_it(manifest: dict[str, Any]) -> None:
        del manifest["files"][program(manifest)["file"]]
        program(manifest)["file"] = "unet.mlpackage"
        manifest["files"] |= {"unet.mlpackage/model": entry, "unet.mlpackage/weights": entry}

    (bundle / json.loads((bundle / "manifest.json").read_text())["programs"]["unet"]["file"]).unlink()
    refused(changed(bundle, package_it), "weights: is a link inside a program, which holds files alone")
    (package / "weights").unlink()
    (package / "weights").write_text("a")
    read_bundle(bundle)


def test_a_file_of_absurd_size_is_not_hashed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of 200 GB takes no place on the disk, and hours to hash."""
    size = 200 << 30
    file = next(path for path in bundle.iterdir() if path.suffix == ".pte")
    os.truncate(file, size)

    def hashed(path: Path) -> str:
        assert path != file, "it is being hashed"
        return sha256_of(path)

    monkeypatch.setattr("device_runner.bundle.read.sha256_of", hashed)
    refused(bundle, f"has {size} bytes, manifest.json says")
    changed(bundle, lambda manifest: manifest["files"][file.name].update(size_bytes=size))
    refused(bundle, "its files have .* bytes together; up to 68719476736 are read")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 200_000, "cannot be read as JSON: nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read as JSON: a number of 5000 digits"),
        ("{" + '"a":{' * 100_000, "cannot be read as JSON"),
        ("\0", "cannot be read as JSON"),
        ('"text"', "manifest.json"),
    ],
)
def test_manifests_that_are_made_to_break_readers(bundle: Path, text: str, told: str) -> None:
    (bundle / "manifest.json").write_text(text)
    refused(bundle, told)


def test_a_manifest_of_absurd_size(bundle: Path) -> None:
    os.truncate(bundle / "manifest.json", 1 << 40)
    refused(bundle, "manifest.json: cannot be read as JSON: 1099511627776 bytes, more than the")
