"""The contract of a denoiser: what others ask of the UNet instead of opening it."""

from __future__ import annotations

import pytest
import torch

from mobilevd.model.backbone import Backbone
from mobilevd.model.unet import SpatioTemporalUNet, size_multiple
from tests.mobilevd.unets import inputs, small_unet


def test_the_contract_is_complete() -> None:
    """A backbone that lacks a part of it cannot be made."""

    class Partial(Backbone):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Partial()  # type: ignore[abstract]
    assert isinstance(small_unet(), Backbone)


def test_encoder_features_are_those_of_the_forward_pass() -> None:
    """The output of each down block's last layer, taken from a run of the whole network."""
    unet = small_unet(layers_per_block=2)
    seen = []
    for level in range(2):
        last = unet.get_submodule(f"down_blocks.{level}.{'attentions' if level == 0 else 'resnets'}.1")
        last.register_forward_hook(lambda module, arguments, output: seen.append(output))
    arguments = inputs(unet, size=(8, 8))
    with torch.no_grad():
        unet(*arguments)
        expected, seen[:] = list(seen), []
        features = unet.encoder_features(*arguments)
    assert [f.shape[1] for f in features] == unet.encoder_channels == [32, 64]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(features, expected, strict=True))


def test_the_encoder_is_a_copy_of_the_way_down() -> None:
    unet = small_unet()
    encoder, arguments = unet.encoder(), inputs(unet)
    with torch.no_grad():
        before = unet.encoder_features(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(encoder.encoder_features(*arguments), before, strict=True))
        for parameter in encoder.parameters():
            parameter.zero_()
        after = unet.encoder_features(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert sum(p.numel() for p in encoder.parameters()) < 0.6 * sum(p.numel() for p in unet.parameters())


def test_features_have_all_frames_whatever_the_temporal_scale() -> None:
    unet = small_unet(temporal_scale=2)
    features = unet.encoder_features(*inputs(unet, batch=2, num_frames=4))
    assert [len(feature) for feature in features] == [8, 8]


def test_sizes_and_channels() -> None:
    unet = small_unet(sample_size=[8, 16], spatial_scale=2)
    assert (unet.latent_channels, unet.condition_channels, unet.context_dim, unet.num_frames) == (4, 4, 16, 4)
    assert unet.latent_size == (8, 16) and small_unet(sample_size=24).latent_size == (24, 24)
    assert small_unet().latent_size is None
    assert unet.size_multiple == size_multiple(unet.config) == 4
    assert size_multiple({}) == _svd_on_meta().size_multiple == 8


def _svd_on_meta() -> SpatioTemporalUNet:
    with torch.device("meta"):
        return SpatioTemporalUNet()
