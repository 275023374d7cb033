"""The tiny codec: its interface, its folder, and the quality of the weights that are shipped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from mobilevd.codecs import TinyCodec, load_codec
from mobilevd.errors import UserError
from mobilevd.pixels import to_float
from training.tiny.codec import (
    HELD_OUT,
    measure_latents,
    reconstruction_psnr_db,
    scene_frames,
    train_tiny_codec,
)

SHIPPED = Path(__file__).parents[3] / "assets" / "tiny" / "codec"


@pytest.fixture(scope="module")
def shipped():
    return load_codec(SHIPPED)


@pytest.fixture(scope="module")
def held_out():
    seeds = range(HELD_OUT + 100, HELD_OUT + 148)  # apart from those that the training command prints
    return {size: to_float(scene_frames(seeds, *size)) for size in [(64, 128), (32, 64)]}


@pytest.mark.parametrize(("size", "psnr_db"), [((64, 128), 33.0), ((32, 64), 30.0)])
def test_shipped_codec_reconstructs_scenes_it_never_saw(shipped, held_out, size, psnr_db):
    assert reconstruction_psnr_db(shipped, held_out[size]) >= psnr_db


@pytest.mark.parametrize("size", [(64, 128), (32, 64)])
def test_shipped_latents_are_scaled(shipped, held_out, size):
    latents = shipped.encode(held_out[size])
    assert latents.shape[1:] == (4, size[0] // 4, size[1] // 4)
    assert latents.mean((0, 2, 3)).abs().max() < 0.2
    assert ((latents.std((0, 2, 3)) - 1).abs() < 0.15).all()


def test_shipped_decoder_forgives_noise(shipped, held_out):
    frames = held_out[32, 64]
    latents = shipped.encode(frames)
    noisy = latents + 0.2 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    error = (shipped.decode(noisy[None])[0] - frames).square().mean()
    assert error < 4e-3  # 30 dB


def test_shipped_codec_is_small_and_frozen(shipped):
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 1_000_000
    assert not shipped.training and not any(p.requires_grad for p in shipped.parameters())


def test_conditioning_latents_are_the_unscaled_ones():
    torch.manual_seed(0)
    codec = TinyCodec(width=8, scaling_factor=4.0, latent_shift=(1.0, 2.0, 3.0, 4.0))
    image = torch.rand(2, 3, 16, 32) * 2 - 1
    unscaled = codec.encode_condition(image)
    torch.testing.assert_close(codec.encode(image), (unscaled - torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1)) * 4)
    decoded = codec.decode(codec.encode(image).view(1, 2, 4, 4, 8))
    torch.testing.assert_close(decoded[0], codec.vae.decoder(unscaled).clamp(-1, 1))


def test_measured_statistics_standardize():
    torch.manual_seed(0)
    codec = TinyCodec(width=8)
    frames = [torch.rand(4, 3, 16, 32) * 2 - 1, torch.rand(4, 3, 8, 16) * 2 - 1]
    measure_latents(codec, frames)
    latents = torch.cat([codec.encode(part).transpose(0, 1).flatten(1) for part in frames], 1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.var(1).mean(), torch.tensor(1.0))


def test_embedding_is_a_thumbnail():
    image = torch.full((1, 3, 64, 128), -1.0)
    image[:, 0, :16, 16:32] = 1.0  # row 0, column 1 of the grid, red
    embedding = TinyCodec(width=8).embed_image(image)
    expected = torch.full((3, 4, 8), -1.0)
    expected[0, 0, 1] = 1.0
    torch.testing.assert_close(embedding, expected.view(1, 1, 96))


def test_folder_round_trip(tmp_path):
    codec = TinyCodec(width=8, scaling_factor=2.5, latent_shift=(0.1, 0.2, 0.3, 0.4))
    codec.save_pretrained(tmp_path / "codec")
    loaded = load_codec(tmp_path / "codec")
    assert (loaded.name, loaded.scaling_factor, loaded.embedding_dim) == ("tiny", 2.5, 96)
    image = torch.rand(1, 3, 16, 32)
    torch.testing.assert_close(loaded.encode(image), codec.encode(image), rtol=0, atol=0)


def test_training_learns_and_repeats_itself():
    losses = []
    train = partial(train_tiny_codec, seed=3, steps=25, batch=8, num_scenes=16, sizes=((32, 64),))
    first = train(progress=lambda step, steps, loss: losses.append(loss))
    again = train()
    assert losses[-1] < 0.5 * losses[0]
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_indivisible_size_is_named(shipped):
    with pytest.raises(UserError, match="30x64 .* does not divide by 4"):
        shipped.encode(torch.zeros(1, 3, 30, 64))


def test_wrong_folders_say_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist: looked for .*vae/.*tiny codec"):
        load_codec(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a codec folder: looked for"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"codec": "other"}))
    with pytest.raises(UserError, match="is not a codec folder"):
        load_codec(tmp_path)


def test_broken_tiny_folders_name_the_file(tmp_path):
    TinyCodec(width=8).save_pretrained(tmp_path / "codec")
    weights = tmp_path / "codec" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="model.safetensors: not the weights"):
        load_codec(tmp_path / "codec")
    (tmp_path / "codec" / "config.json").write_text(json.dumps({"codec": "tiny", "breadth": 8}))
    with pytest.raises(UserError, match="config.json: not the configuration of a tiny codec: .*breadth"):
        load_codec(tmp_path / "codec")
