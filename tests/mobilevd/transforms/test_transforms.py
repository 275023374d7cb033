"""What all transforms have in common: made from a config, resumable, and described by the model's folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mobilevd.config.transforms import FunnelsSettings, TransformSettings
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms import TRANSFORMS, make_transform
from mobilevd.transforms.resolution import record_size
from tests.mobilevd.transforms.specs import ANY, transform_of
from tests.mobilevd.unets import inputs, relative_error, run, small_unet

SPECS: list[dict[str, Any]] = [
    {"kind": "resolution", "height": 32, "width": 64},
    {"kind": "cross_attention"},
    {"kind": "temporal_multiscale", "factor": 2, "operator": "stride"},
    {"kind": "spatial_multiscale", "operator": "stride"},
    {"kind": "temporal_pruning", "keep": 3, "learning_rate": 0.1},
    {"kind": "funnels", "attention": 0.5, "convolution": 0.4},
]


def test_every_kind_is_tried_here() -> None:
    assert (
        {type(ANY.validate_python(spec)) for spec in SPECS}
        == set(TRANSFORMS)
        == set(TransformSettings.__subclasses__())
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["kind"])
def test_training_can_go_on_from_the_models_folder_alone(spec: dict[str, Any], tmp_path: Path) -> None:
    """A step of training on the reloaded live model with a transform made anew is the step on the original."""
    live = transform_of(spec).begin(small_unet())
    live.save_pretrained(tmp_path / "live")
    reloaded = SpatioTemporalUNet.from_pretrained(tmp_path / "live")
    losses = []
    for unet in (live, reloaded):
        transform = transform_of(spec)
        transform.before_step(unet, torch.Generator().manual_seed(5))
        loss = unet(*inputs(unet)).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in unet.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
        transform.after_step(unet)
        losses.append(loss.detach())
    assert torch.equal(losses[0], losses[1])
    for a, b in zip(live.parameters(), reloaded.parameters(), strict=True):
        assert torch.equal(a, b)

    final = transform_of(spec).finish(reloaded)
    final.save_pretrained(tmp_path / "final")
    assert torch.equal(run(SpatioTemporalUNet.from_pretrained(tmp_path / "final")), run(final))
    assert not final.config["live_funnels"] and not final.config["temporal_gates"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["kind"])
def test_the_given_model_is_left_as_it_was(spec: dict[str, Any]) -> None:
    unet = small_unet().train()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    live = transform_of(spec).begin(unet)
    assert live.training
    with torch.no_grad():
        for parameter in live.parameters() if live is not unet else []:
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())


def test_all_transforms_together() -> None:
    """In the paper's order, each exact where it says so; the final config rebuilds the model."""
    unet = small_unet()
    for spec in SPECS:
        transform = transform_of(spec)
        unet = transform.finish(transform.begin(unet))
    assert (unet.config["temporal_scale"], unet.config["spatial_scale"]) == (2, 2)
    assert len(unet.temporal_block_names()) == 3
    assert run(unet, inputs(unet, size=(8, 8))).isfinite().all()


def test_a_transform_takes_its_settings_whole() -> None:
    settings = FunnelsSettings(attention=0.25, init="he")
    assert make_transform(settings).settings is settings


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "temporal_prunning"}, "'temporal_prunning' .*'temporal_pruning'"),
        ({"kind": "funnels", "factor": 2}, "factor\n.*not permitted"),
        ({"kind": "resolution", "height": 32}, "width\n.*required"),
        ({"kind": "resolution", "height": 0, "width": 8}, "height\n.*greater than or equal to 8"),
        ({"kind": "temporal_multiscale", "factor": 1}, "factor\n.*greater than or equal to 2"),
        ({"kind": "spatial_multiscale", "operator": "max"}, "operator\n.*'average' or 'stride'"),
        ({"kind": "temporal_pruning", "keep": 0}, "keep\n.*greater than 0"),
        ({"kind": "temporal_pruning", "keep": 2.5}, "keep is 2.5"),
        ({"kind": "temporal_pruning", "method": "random"}, "method\n.*'learned'"),
        ({"kind": "funnels", "attention": 1.5}, "attention\n.*less than or equal to 1"),
        ({"kind": "funnels", "convolution": 0.0}, "convolution\n.*greater than 0"),
        ({"kind": "funnels", "attention": None}, "nothing is narrowed"),
        ({"kind": "funnels", "init": "zeros"}, "init\n.*'csi' or 'he'"),
    ],
)
def test_wrong_settings_are_refused_before_there_is_a_transform(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        transform_of(spec)


def test_the_working_size_is_recorded_in_the_config(tmp_path: Path) -> None:
    unet = small_unet()
    assert unet.latent_size is None
    record_size(unet, 4, 6, 10)
    unet.save_pretrained(tmp_path)
    assert SpatioTemporalUNet.from_pretrained(tmp_path).latent_size == (6, 10)
    assert small_unet(sample_size=96).latent_size == (96, 96)
    with pytest.raises(UserError, match="latents of 5x10"):
        record_size(unet, 4, 5, 10)


def test_only_the_importance_has_its_own_learning_rate() -> None:
    for spec in SPECS:
        rates = transform_of(spec).learning_rates()
        assert rates == ({"temporal_importance": 0.1} if spec["kind"] == "temporal_pruning" else {})


def test_cross_attention_is_rewritten_exactly() -> None:
    unet = small_unet()
    rewritten = transform_of({"kind": "cross_attention"}).begin(unet)
    assert rewritten.config["cross_attention"] == "projection"
    arguments = inputs(unet, batch=3)
    assert relative_error(run(rewritten, arguments), run(unet, arguments)) <= 2e-6
    names = {name for name, _ in rewritten.named_parameters()}
    assert not any("attn2.to_" in name or ("transformer_blocks" in name and "norm2" in name) for name in names)
    # in double precision only the rounding of the stored product is left
    wide, wide_rewritten = torch.nn.Module.to(unet, torch.float64), torch.nn.Module.to(rewritten, torch.float64)
    sample, timestep, embedding, ids = arguments
    wide_arguments = (sample.double(), timestep, embedding.double(), ids)
    assert relative_error(run(wide_rewritten, wide_arguments), run(wide, wide_arguments)) <= 1e-7
    assert transform_of({"kind": "cross_attention"}).begin(rewritten) is rewritten
