"""The latent cache: the right tensors, made once, and made anew when anything that matters changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mobilevd.codecs import TinyCodec
from mobilevd.errors import UserError
from mobilevd.pixels import to_float
from tests.training.data.scanned import scan_videos
from training.data.clips import Clip, ClipIndex
from training.data.corpus import write_corpus
from training.data.latents import build_latents
from training.data.video import read_clip
from training.data.videos import as_video

SIZE: dict[str, Any] = {"height": 32, "width": 64, "num_frames": 4, "fps": 7}


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> ClipIndex:
    return scan_videos(write_corpus(tmp_path_factory.mktemp("corpus"), 3, 0, seconds=1, height=32, width=64), 4, 7)


@pytest.fixture
def codec() -> TinyCodec:
    torch.manual_seed(0)
    codec = TinyCodec(width=8, scaling_factor=2.0, latent_shift=(0.1, 0.2, 0.3, 0.4))
    return codec.requires_grad_(False).eval()


def built(index: ClipIndex, codec: TinyCodec, file: Path, **changes) -> tuple[dict[str, torch.Tensor], bool]:
    """The tensors, and whether the clips were encoded for them."""
    calls = []
    settings = SIZE | changes
    dataset = build_latents(index, codec, cache_file=file, **settings, progress=lambda *at: calls.append(at))
    assert calls in ([], [(len(index.clips), len(index.clips))])
    tensors = {"latents": dataset.latents, "first": dataset.first_frames, "embeddings": dataset.embeddings}
    return tensors, bool(calls)


def test_tensors_are_those_of_the_clips(index, codec, tmp_path):
    dataset = build_latents(index, codec, cache_file=tmp_path / "x.safetensors", batch=3, **SIZE)
    assert len(dataset) == 3 and dataset.skipped == []
    assert dataset.latents.shape == (3, 4, 4, 8, 16) and dataset.latents.dtype == torch.float32
    assert dataset.first_frames.shape == (3, 3, 32, 64) and dataset.first_frames.dtype == torch.uint8
    assert dataset.embeddings.shape == (3, 1, 96) and dataset.embeddings.dtype == torch.float32
    clip = index.clips[1]
    pixels = torch.from_numpy(read_clip(clip.video, 4, 7, clip.start_s, 32, 64)).permute(0, 3, 1, 2)
    frames = to_float(pixels)
    item = dataset[1]
    assert torch.equal(item["first_frame"], pixels[0])
    torch.testing.assert_close(item["latents"], codec.encode(frames), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(item["embedding"], codec.embed_image(frames[:1])[0])


def test_the_cache_serves_until_something_changes(index, codec, tmp_path):
    file = tmp_path / "sub" / "x.safetensors"
    first, encoded = built(index, codec, file)
    assert encoded
    again, encoded = built(index, codec, file)
    assert not encoded and all(torch.equal(first[name], again[name]) for name in first)
    for changes in ({"height": 16}, {"fps": 14}, {"num_frames": 3}):
        other = tmp_path / "other.safetensors"
        shutil.copy(file, other)
        assert built(index, codec, other, **changes)[1], changes
    shorter = ClipIndex(index.clips[:2], [])
    assert built(shorter, codec, file)[1] and not built(shorter, codec, file)[1]


def test_another_codec_makes_it_anew(index, codec, tmp_path):
    file = tmp_path / "x.safetensors"
    built(index, codec, file)
    with torch.no_grad():
        next(iter(codec.vae.encoder.parameters())).view(-1)[0] += 1e-3
    assert built(index, codec, file)[1] and not built(index, codec, file)[1]
    codec.set_latent_statistics(2.0, (0.1, 0.2, 0.3, 0.5))
    assert built(index, codec, file)[1] and not built(index, codec, file)[1]
    codec.set_latent_statistics(2.1, (0.1, 0.2, 0.3, 0.5))
    assert built(index, codec, file)[1]


def test_a_changed_video_makes_it_anew(index, codec, tmp_path):
    copies = []
    for clip in index.clips:
        copies.append(Clip(as_video(tmp_path / clip.video.path.name), clip.start_s))
        copies[-1].video.path.write_bytes(clip.video.path.read_bytes())
    copied, file = ClipIndex(copies, []), tmp_path / "x.safetensors"
    assert built(copied, codec, file)[1] and not built(copied, codec, file)[1]
    os.utime(copies[0].video.path, ns=(0, 0))
    assert built(copied, codec, file)[1]


def test_a_broken_cache_is_made_anew(index, codec, tmp_path):
    file = tmp_path / "x.safetensors"
    whole, _ = built(index, codec, file)
    file.write_bytes(file.read_bytes()[:-100])
    again, encoded = built(index, codec, file)
    assert encoded and torch.equal(whole["latents"], again["latents"])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]


def test_a_clip_that_cannot_be_read_is_left_out_and_named(index, codec, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    mixed = ClipIndex([index.clips[0], Clip(as_video(bad), 0.0), index.clips[1]], [])
    for _ in range(2):  # fresh, then from the cache
        dataset = build_latents(mixed, codec, cache_file=tmp_path / "x.safetensors", **SIZE)
        assert len(dataset) == 2 and len(dataset.skipped) == 1 and "bad.mp4: broken" in dataset.skipped[0]
    with pytest.raises(UserError, match="none of the 1 clips can be read, first .*bad.mp4"):
        build_latents(ClipIndex([Clip(as_video(bad), 0.0)], []), codec, cache_file=tmp_path / "y.safetensors", **SIZE)
    assert not (tmp_path / "y.safetensors").exists()


def test_an_indivisible_size_is_refused_before_any_reading(codec, tmp_path):
    odd: dict[str, Any] = SIZE | {"height": 30}
    nothing = ClipIndex([Clip(as_video(tmp_path / "gone.mp4"), 0.0)], [])
    with pytest.raises(UserError, match="30x64 .* does not divide by 4"):
        build_latents(nothing, codec, cache_file=tmp_path / "x.safetensors", **odd)
