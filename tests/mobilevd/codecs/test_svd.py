"""SVDCodec against the methods of diffusers' own pipeline, on tiny random models of the real classes."""

from __future__ import annotations

import json
import shutil
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    StableVideoDiffusionPipeline,
)
from diffusers.video_processor import VideoProcessor
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from mobilevd.codecs import load_codec
from mobilevd.codecs.svd import SVDCodec
from mobilevd.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("svd")
    vae = cast(Any, AutoencoderKLTemporalDecoder)(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1
    )
    vae.save_pretrained(root / "vae")
    clip = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        patch_size=32,
        projection_dim=24,
    )
    CLIPVisionModelWithProjection(clip).save_pretrained(root / "image_encoder")
    CLIPImageProcessor().save_pretrained(root / "feature_extractor")
    return root


@pytest.fixture(scope="module")
def codec(folder) -> SVDCodec:
    loaded = load_codec(folder)
    assert isinstance(loaded, SVDCodec)
    return loaded


@pytest.fixture(scope="module")
def pipeline(codec):
    pipe = StableVideoDiffusionPipeline.__new__(StableVideoDiffusionPipeline)
    super(StableVideoDiffusionPipeline, pipe).__init__()
    extractor = CLIPImageProcessor()
    pipe.register_modules(vae=codec.vae, image_encoder=codec.image_encoder, feature_extractor=extractor)
    pipe.video_processor = VideoProcessor(do_resize=True, vae_scale_factor=codec.spatial_factor)
    return pipe


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (256, 512, 3), np.uint8)
    return Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_it_knows_what_svd_is(codec):
    assert (codec.name, codec.latent_channels, codec.spatial_factor, codec.embedding_dim) == ("svd", 4, 8, 24)
    assert codec.scaling_factor == 0.18215
    assert not codec.training and not any(p.requires_grad for p in codec.parameters())


def test_embedding_is_the_pipelines(codec, pipeline, picture):
    image, tensor = picture
    with torch.no_grad():
        expected = pipeline._encode_image(image, "cpu", 1, False)
        torch.testing.assert_close(codec.embed_image(tensor), expected, rtol=1e-5, atol=1e-5)


def test_condition_is_the_pipelines_and_unscaled(codec, pipeline, picture):
    tensor = picture[1][..., :32, :64]
    with torch.no_grad():
        expected = pipeline._encode_vae_image(tensor, "cpu", 1, False)
        torch.testing.assert_close(codec.encode_condition(tensor), expected)
        torch.testing.assert_close(codec.encode(tensor), expected * 0.18215)


def test_decoding_is_the_pipelines(codec, pipeline):
    latents = 0.1 * torch.randn(1, 4, 4, 4, 8, generator=torch.Generator().manual_seed(1))
    for chunk_size in (None, 2):
        codec.decode_chunk_size = chunk_size
        with torch.no_grad():
            expected = pipeline.decode_latents(latents, 4, chunk_size or 4).transpose(1, 2).clamp(-1, 1)
            torch.testing.assert_close(codec.decode(latents), expected)
    codec.decode_chunk_size = None


def test_a_chunk_never_mixes_two_clips(codec):
    latents = 0.1 * torch.randn(2, 3, 4, 4, 8, generator=torch.Generator().manual_seed(2))
    codec.decode_chunk_size = 2  # does not divide 3: the pipeline would decode frame 3 with frame 1 of the next clip
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(latents)[1:], codec.decode(latents[1:]), rtol=1e-4, atol=1e-5)
    codec.decode_chunk_size = None


def test_half_precision_files_alone_are_found(folder, tmp_path):
    AutoencoderKLTemporalDecoder.from_pretrained(folder / "vae").save_pretrained(tmp_path / "vae", variant="fp16")
    for part in ("image_encoder", "feature_extractor"):
        (tmp_path / part).symlink_to(folder / part)
    loaded = load_codec(tmp_path)
    assert next(loaded.parameters()).dtype == torch.float32


def test_a_broken_part_is_named(folder, tmp_path):
    for part in ("image_encoder", "feature_extractor"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "vae").mkdir()
    with pytest.raises(UserError, match="vae: not a AutoencoderKLTemporalDecoder"):
        load_codec(tmp_path)


def test_a_pointer_in_place_of_weights_is_told(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "svd")
    file = next((tmp_path / "svd" / "vae").glob("*.safetensors"))
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3049435868\n")
    with pytest.raises(UserError, match=f"{file.name}: a pointer of Git LFS .* run `git lfs pull`"):
        SVDCodec.from_pretrained(tmp_path / "svd")


@pytest.mark.parametrize(
    "part", ["image_encoder/config.json", "vae/config.json", "feature_extractor/preprocessor_config.json"]
)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_implementation", "somebody/kernels"),
        ("_attn_implementation", "flash_attention_2"),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("auto_map", {"AutoModel": "somebody/code--modeling.Model"}),
    ],
)
def test_configs_that_choose_code_are_refused(folder, tmp_path, part, key, value):
    shutil.copytree(folder, tmp_path / "svd")
    file = tmp_path / "svd" / part
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=f"{part}: {key} makes other code run when it is loaded"):
        SVDCodec.from_pretrained(tmp_path / "svd")


def test_attention_is_that_of_the_library_itself(codec):
    assert codec.image_encoder.config._attn_implementation == "eager"
