"""The exported program against the model it was made from, and what stands in the way of a wrong bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from device_runner.bundle.manifest import FileEntry, Manifest, TensorEntry
from device_runner.bundle.read import read_manifest
from export.bundle import export_bundle
from export.generator.one_step import OneStepGenerator, OneStepSettings
from export.program.parity import compare
from export.targets.executorch_runtime import run_pte
from export.targets.xnnpack import NotDelegated
from mobilevd.diffusion.conditioning import added_time_ids
from mobilevd.diffusion.preconditioning import Conditions
from mobilevd.diffusion.sampling import generate_one_step
from mobilevd.errors import UserError
from mobilevd.files import sha256_file
from mobilevd.model.unet import SpatioTemporalUNet
from tests.export.lowered import lower_to_xnnpack
from tests.export.models import FRAMES, HEIGHT, SETTINGS, WIDTH, compressed, unet
from tests.mobilevd.transforms.specs import transform_of

MODELS = {
    "uncompressed": [],
    "spatial": [{"kind": "cross_attention"}, {"kind": "spatial_multiscale", "factor": 2}],
    "all": [
        {"kind": "cross_attention"},
        {"kind": "temporal_multiscale", "factor": 2},
        {"kind": "temporal_pruning", "keep": 3},
        {"kind": "funnels", "attention": 0.5, "convolution": 0.5},
    ],
    "stride": [{"kind": "temporal_multiscale", "factor": 2, "operator": "stride"}],
}


@pytest.mark.parametrize("name", MODELS)
def test_one_delegate_nothing_outside_and_the_models_numbers(name: str, tmp_path: Path) -> None:
    """Against the one-step generator of `mobilevd/diffusion`, which knows nothing of export."""
    model = compressed(*MODELS[name])
    real = {"image_latents": torch.randn(1, 4, HEIGHT, WIDTH), "image_embedding": torch.randn(1, 1, 16)}
    manifest = export_bundle(model, tmp_path / "bundle", SETTINGS, name="test", inputs=real)
    program = manifest.programs["unet"]
    delegation = program.delegation
    assert (delegation.delegates, delegation.operators_outside) == (1, ())
    assert (delegation.operators_inside or 0) > 50 and delegation.operator_share == delegation.flops_share == 1
    assert {check.inputs for check in program.parity.checks} == {"noise", "latents"}
    assert all(check.psnr_db >= 100 for check in program.parity.checks)

    noise = torch.randn(FRAMES, 4, HEIGHT, WIDTH)
    conditions = Conditions(real["image_latents"], real["image_embedding"], added_time_ids(1, 7, 127, 0.02))
    with torch.no_grad():
        expected = generate_one_step(model, noise[None], 700.0, conditions)[0]
    output = run_pte(tmp_path / "bundle" / "unet.pte", [noise, *real.values()])[0]
    assert compare(output, expected).psnr_db >= 100


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, SpatioTemporalUNet]:
    model = unet()
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    return folder, export_bundle(model, folder, SETTINGS, name="test"), model


def test_the_manifest_describes_every_file(exported: tuple[Path, Manifest, SpatioTemporalUNet]) -> None:
    folder, manifest, model = exported
    assert json.loads((folder / "manifest.json").read_text()) == manifest.to_json()
    assert read_manifest(folder) == manifest
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    assert set(manifest.files) == there
    for name, entry in manifest.files.items():
        assert entry == FileEntry(sha256_file(folder / name), (folder / name).stat().st_size)
    assert manifest.model.parameters == sum(p.numel() for p in model.parameters())
    assert (manifest.model.height, manifest.model.width) == (4 * HEIGHT, 4 * WIDTH)


def test_the_reference_tensors_are_the_models_answer(exported: tuple[Path, Manifest, SpatioTemporalUNet]) -> None:
    folder, manifest, model = exported
    program = manifest.programs["unet"]

    def read(entry: TensorEntry) -> torch.Tensor:
        return torch.from_numpy(np.fromfile(folder / entry.file, "<f4").reshape(entry.shape))

    inputs = [read(entry) for entry in program.inputs]
    assert [entry.name for entry in program.inputs] == ["noise", "image_latents", "image_embedding"]
    generator = OneStepGenerator(model, SETTINGS)
    with torch.no_grad():
        torch.testing.assert_close(read(program.outputs[0]), generator(*inputs), rtol=1e-5, atol=1e-6)


def test_exporting_leaves_the_model_as_it_was() -> None:
    model = unet().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = OneStepGenerator(model, SETTINGS)
    from export.generator.folding import fold_for_phone

    fold_for_phone(model, generator.embedding)
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_unfinished_models_and_unknown_targets_are_refused(tmp_path: Path) -> None:
    live = transform_of({"kind": "funnels", "attention": 0.5}).begin(unet())
    with pytest.raises(UserError, match="finish the stage 'funnels'"):
        export_bundle(live, tmp_path / "a", SETTINGS, name="test")
    gated = transform_of({"kind": "temporal_pruning", "keep": 3}).begin(unet())
    with pytest.raises(UserError, match="finish the stage 'temporal_pruning'"):
        export_bundle(gated, tmp_path / "b", SETTINGS, name="test")
    with pytest.raises(UserError, match="unknown target 'tpu'; known are executorch-xnnpack"):
        export_bundle(unet(), tmp_path / "c", SETTINGS, name="test", target="tpu")
    with pytest.raises(UserError, match="no precision 'fp8'; it has fp32"):
        export_bundle(unet(), tmp_path / "d", SETTINGS, name="test", precision="fp8")
    with pytest.raises(UserError, match="divisible by 2"):
        export_bundle(unet(), tmp_path / "e", OneStepSettings(7, WIDTH, FRAMES), name="test")
    assert not list(tmp_path.iterdir())


def test_what_xnnpack_does_not_have_is_named() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i0(x) + 1

    with pytest.raises(NotDelegated, match="i0") as caught:
        lower_to_xnnpack(Odd(), [torch.randn(2, 3)])
    assert caught.value.operators[0].count == 1


def test_figures_of_parity_by_hand() -> None:
    reference, output = torch.tensor([0.0, 2.0]), torch.tensor([0.1, 2.1])
    got = compare(output, reference)
    assert got.psnr_db == pytest.approx(10 * np.log10(4 / 0.01), rel=1e-4)
    assert got.snr_db == pytest.approx(10 * np.log10(2 / 0.01), rel=1e-4)
    assert got.max_abs_error == pytest.approx(0.1, rel=1e-4)
    assert compare(torch.tensor([float("nan"), 0.0]), reference).psnr_db < 0
