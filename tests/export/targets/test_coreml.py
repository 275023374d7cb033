"""Core ML packages, read back from their own description: nothing runs them here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device_runner.bundle.manifest import ModelEntry
from export.bundle import Item, write_bundle
from export.program.program import Program
from export.targets import coreml, coreml_package
from export.targets.coreml import Coreml
from export.targets.coreml_package import check_package, constants, operator_types, operators, read_spec, weight_names
from mobilevd.errors import UserError
from mobilevd.model.layers.ops import GroupNorm, set_phone_form

PARTS = {"resnet": "fp16"}


@pytest.fixture(scope="module")
def packages(small_program: Program, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("coreml")
    asked = {precision: (precision, {}) for precision in ("fp32", "palettized6", "palettized4", "int8")}
    asked["kept"] = ("int8", PARTS)
    files = {name: folder / name / "blocks.mlpackage" for name in asked}
    graph = coreml._exported(small_program)
    halves = coreml._convert(graph, small_program, "fp16")
    convert = coreml._convert
    with pytest.MonkeyPatch.context() as patch:  # what is compressed is always the same model of fp16: converted once
        patch.setattr(coreml, "_exported", lambda program: graph)
        patch.setattr(
            coreml,
            "_convert",
            lambda graph, program, precision: convert(graph, program, precision) if precision == "fp32" else halves,
        )
        for name, (precision, layers) in asked.items():
            files[name].parent.mkdir()
            Coreml().lower(small_program, precision, files[name], layers)
    return files


def test_a_bundle_of_a_package(small_program: Program, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    set_phone_form(small_program.module)
    capfd.readouterr()
    manifest = write_bundle(
        [Item(small_program, "fp16")], Coreml(), tmp_path / "bundle", name="test", model=ModelEntry()
    )
    assert capfd.readouterr() == ("", "")
    assert all(m.phone_form for m in small_program.module.modules() if isinstance(m, GroupNorm))  # as it was
    entry = manifest.programs["blocks"]
    assert entry.parity.executed_here is False and "not executed here: Core ML" in str(entry.parity.reason)
    file = tmp_path / "bundle" / entry.file
    halves = 2 * sum(p.numel() for p in small_program.module.parameters())
    assert entry.size_bytes == _size(file) and halves < _size(file) < 2 * halves
    assert any(name.endswith("weights/weight.bin") for name in manifest.files)

    spec = read_spec(file)
    found = operator_types(spec)
    assert entry.delegation.operators_inside == sum(found.values())
    assert (entry.delegation.delegates, entry.delegation.operators_outside) == (1, ())
    # norms of tokens and attention stay whole; Core ML has no group norm: two means for each of five
    assert (found["layer_norm"], found["scaled_dot_product_attention"], found["reduce_mean"]) == (5, 2, 10)
    assert found["conv"] == 6 and found["matmul"] == found["softmax"] == found["batch_norm"] == 0
    inputs = {feature.name: list(feature.type.multiArrayType.shape) for feature in spec.description.input}
    outputs = {feature.name: list(feature.type.multiArrayType.shape) for feature in spec.description.output}
    assert inputs == {"frames": [2, 4, 8, 8], "context": [1, 1, 16]} and outputs == {"latents": [2, 4, 4, 4]}
    assert {str(f.type.multiArrayType.dataType) for f in spec.description.input} == {"65568"}  # float32
    assert _weight_types(spec) == {"FLOAT16"}


def test_precisions_differ_in_their_weights(packages: dict[str, Path]) -> None:
    sizes = {precision: _size(file) for precision, file in packages.items()}
    assert sizes["palettized4"] < sizes["palettized6"] < sizes["int8"] < sizes["kept"] < 0.5 * sizes["fp32"]
    assert sizes["int8"] < 0.4 * sizes["fp32"]
    decompressed = {
        "palettized6": "constexpr_lut_to_dense",
        "palettized4": "constexpr_lut_to_dense",
        "int8": "constexpr_blockwise_shift_scale",
    }
    for precision, kind in decompressed.items():
        spec = read_spec(packages[precision])
        count = sum(op.type == kind for op in operators(spec))
        assert count == len(_large_weights(read_spec(packages["fp32"]))) > 20
    assert _weight_types(read_spec(packages["fp32"])) == {"FLOAT32"}


def test_named_layers_stay_at_fp16(packages: dict[str, Path]) -> None:
    kept = _large_weights(read_spec(packages["kept"]))
    assert len(kept) == 4 and all("resnet" in name for name in kept)


def test_layers_that_cannot_be_kept(small_program: Program, tmp_path: Path) -> None:
    def lower(precision: str, layers: dict[str, str]) -> None:
        Coreml().lower(small_program, precision, tmp_path / "a.mlpackage", layers)

    with pytest.raises(
        UserError, match="layer resnet cannot have palettized4 in a program of int8; layers can be kept"
    ):
        lower("int8", {"resnet": "palettized4"})
    with pytest.raises(UserError, match="resnet cannot have fp16 in a program of fp32"):
        lower("fp32", PARTS)
    with pytest.raises(UserError, match="no weights belong to a layer 'resnets'"):
        lower("int8", {"resnets": "fp16"})
    assert not list(tmp_path.iterdir())


def test_a_wrong_package_is_found(packages: dict[str, Path], small_program: Program, tmp_path: Path) -> None:
    nothing: frozenset[str] = frozenset()
    with pytest.raises(RuntimeError, match="was not compressed"):
        check_package(packages["kept"], small_program, "int8", nothing)
    with pytest.raises(RuntimeError, match="is stored in UINT6 instead of UINT4"):
        check_package(packages["palettized6"], small_program, "palettized4", nothing)
    with pytest.raises(RuntimeError, match="is of FLOAT32, the program is of FLOAT16"):
        check_package(packages["fp32"], small_program, "fp16", nothing)
    renamed = Program("blocks", small_program.module, small_program.cases, small_program.references, ("frames_out",))
    with pytest.raises(RuntimeError, match="wrote the arrays .*latents.* instead of .*frames_out"):
        check_package(packages["fp32"], renamed, "fp32", nothing)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _large_weights(spec: Any) -> list[str]:
    """Names of those that lie there as plain numbers."""
    values = constants(spec)
    limit = coreml_package.MIN_ELEMENTS
    return [name for name in weight_names(spec) if name in values and values[name].numel > limit]


def _weight_types(spec: Any) -> set[str]:
    return {constants(spec)[name].dtype for name in weight_names(spec)}
