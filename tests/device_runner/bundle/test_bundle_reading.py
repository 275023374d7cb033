"""A bundle is read only if it is intact, and every fault names the file or the key."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_runner.bundle.read import read_bundle
from device_runner.errors import RunnerError


def refuse(folder: Path, *texts: str) -> None:
    """Reading fails with one line that holds all the texts."""
    with pytest.raises(RunnerError) as caught:
        read_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    for text in texts:
        assert text in message


def test_an_intact_bundle_is_read(bundle: Path) -> None:
    read = read_bundle(bundle)
    unet = read.program("unet")
    assert (read.name, read.precision, unet.method, unet.file) == (
        "small",
        "fp32",
        "forward",
        bundle / "unet.pte",
    )
    assert [(tensor.name, tensor.shape) for tensor in unet.inputs] == [
        ("image", (1, 3, 16, 16)),
        ("scale", (1, 8, 1, 1)),
    ]
    assert unet.outputs[0].min_psnr_db == 100
    assert unet.outputs[0].size_bytes == 4 * 16 * 16 * 4
    assert re.fullmatch("[0-9a-f]{64}", read.sha256)


def test_the_bundle_hash_follows_the_content(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    before = read_bundle(bundle).sha256
    (bundle / "unet.pte").write_bytes(b"another")
    edit_manifest(rehash=True)
    assert read_bundle(bundle).sha256 != before


def test_an_unknown_program_lists_those_there(bundle: Path) -> None:
    with pytest.raises(RunnerError, match="no program 'decoder'; it has: unet"):
        read_bundle(bundle).program("decoder")


def test_one_changed_byte_is_found(bundle: Path) -> None:
    data = bytearray((bundle / "unet.pte").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "unet.pte").write_bytes(data)
    refuse(bundle, "unet.pte", "SHA-256")


def test_a_shortened_file_is_found(bundle: Path) -> None:
    data = (bundle / "unet.pte").read_bytes()
    (bundle / "unet.pte").write_bytes(data[:-1])
    refuse(bundle, "unet.pte", f"{len(data) - 1} bytes", f"says {len(data)}")


def test_a_missing_file_is_found(bundle: Path) -> None:
    (bundle / "reference" / "unet.scale.bin").unlink()
    refuse(bundle, "unet.scale.bin", "does not exist")


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    refuse(tmp_path, str(tmp_path), "not a bundle")
    refuse(tmp_path / "nowhere", "not a bundle")


def test_a_run_and_its_stage_say_where_a_bundle_lies(bundle: Path, tmp_path: Path) -> None:
    stage = tmp_path / "run" / "07-last"
    shutil.copytree(bundle, stage / "bundle")
    for place in (stage, tmp_path / "run"):
        refuse(place, "not a bundle", f"Did you mean {stage / 'bundle'}?")


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"schema_version": "\xff'])
def test_a_manifest_that_is_not_an_object_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    refuse(bundle, "manifest.json")


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "reference/../../secret", "..\\secret", "C:\\x", ""])
def test_a_path_out_of_the_bundle_is_refused(bundle: Path, edit_manifest: Callable[..., None], path: str) -> None:
    (bundle.parent / "secret").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    edit_manifest(lambda manifest: manifest["files"].update({path: {"sha256": empty, "size_bytes": 0}}))
    refuse(bundle, repr(path), "leaves the bundle")


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.pte"
    shutil.move(bundle / "unet.pte", outside)
    os.symlink(outside, bundle / "unet.pte")
    refuse(bundle, "unet.pte", "link that leaves the bundle")


def test_a_linked_folder_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle / "reference", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", bundle / "reference")
    refuse(bundle, "link that leaves the bundle")


def test_a_bundle_reached_through_a_link_is_read(bundle: Path, tmp_path: Path) -> None:
    os.symlink(bundle, tmp_path / "latest")
    assert read_bundle(tmp_path / "latest").name == "small"


def change_unet(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["programs"]["unet"].update({key: value})


def change_input(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["programs"]["unet"]["inputs"][1].update({key: value})


def change_model(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["model"].update({key: value})


def change_output(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["programs"]["unet"]["outputs"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda manifest: manifest.update(schema_version=2), ["schema_version is 2", "version 1"]),
        (lambda manifest: manifest.pop("schema_version"), ["schema_version"]),
        (lambda manifest: manifest.pop("name"), ["name must be a text, but is missing"]),
        (lambda manifest: manifest.update(programs={}), ["programs must name at least one program"]),
        (lambda manifest: manifest.update(tools=[]), ["tools must be an object"]),
        (lambda manifest: manifest["files"]["unet.pte"].update(size_bytes=-1), ["files.unet.pte.size_bytes"]),
        (
            lambda manifest: manifest["files"].pop("unet.pte"),
            ["programs.unet.file", "not listed under files"],
        ),
        (change_unet("inputs", {}), ["programs.unet.inputs must be a list"]),
        (change_unet("inputs", ["image"]), ["programs.unet.inputs[0] must be an object"]),
        (change_unet("method", ""), ["programs.unet.method must not be empty"]),
        (change_input("shape", [1, 9, 1, 1]), ["unet.scale.bin", "32 bytes", "inputs[1]", "36"]),
        (change_input("shape", [1, -8, 1, 1]), ["inputs[1].shape", "positive whole numbers"]),
        (change_input("shape", [True, 8]), ["inputs[1].shape"]),
        (change_input("dtype", "float16"), ["unet.scale.bin", "32 bytes", "16"]),
        (change_input("dtype", "complex64"), ["inputs[1].dtype", "'complex64' is not known"]),
        (change_output("min_psnr_db", None), ["outputs[0].min_psnr_db must be a number"]),
        (change_output("min_psnr_db", float("nan")), ["outputs[0].min_psnr_db must be finite"]),
        (change_model("fps", "7"), ["model.fps must be a number, not '7'"]),
        (change_model("fps", True), ["model.fps must be a number, not True"]),
        (change_model("num_frames", "6"), ["model.num_frames must be a whole number, not '6'"]),
    ],
)
def test_a_wrong_field_is_named(
    bundle: Path,
    edit_manifest: Callable[..., None],
    change: Callable[[dict[str, Any]], Any],
    texts: list[str],
) -> None:
    edit_manifest(change)
    refuse(bundle, "unet.scale.bin" if "unet.scale.bin" in texts else "manifest.json", *texts)


def test_a_program_may_be_a_folder_whose_every_file_is_listed(bundle: Path, edit_manifest: Callable[..., None]) -> None:
    package = bundle / "unet.mlpackage"
    (package / "Data").mkdir(parents=True)
    shutil.move(bundle / "unet.pte", package / "Data" / "weight.bin")
    edit_manifest(lambda manifest: manifest["programs"]["unet"].update(file="unet.mlpackage"), rehash=True)
    assert read_bundle(bundle).program("unet").file == package
    (package / "more.bin").write_bytes(b"x")
    refuse(bundle, "programs.unet.file", "more.bin' is not listed under files")
    shutil.rmtree(package)
    refuse(bundle, "unet.mlpackage")
