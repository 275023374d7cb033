"""Training from pixels: the clips of a cache under the same numbers, without one."""

from __future__ import annotations

import pytest
import torch

from mobilevd.errors import UserError
from tests.training.data.clip_sets import clip_set, corpus_clips, tiny_codec, write
from training.data.clips import Clip
from training.data.store.pixels import PixelStore
from training.data.videos import Video

SIZES = [(32, 64), (48, 48)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return corpus_clips(tmp_path_factory.mktemp("corpus"), 5)


@pytest.mark.parametrize("workers", [0, 1])
def test_clips_are_those_of_a_cache(clips, tmp_path, workers):
    codec = tiny_codec()
    cached, computed = (
        write(tmp_path / "s", clip_set(clips, SIZES), codec),
        PixelStore(clip_set(clips, SIZES), codec, workers),
    )
    assert computed.sizes == cached.sizes == [3, 2]
    for one, other in zip(computed.read([4, 0, 2]), cached.read([4, 0, 2]), strict=True):
        assert one.latents.dtype == torch.float16 and one.motion_bucket == other.motion_bucket
        assert torch.equal(one.first_frame, other.first_frame)
        torch.testing.assert_close(one.latents, other.latents, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(one.embedding, other.embedding, rtol=2e-3, atol=2e-3)
    computed.close()
    with pytest.raises(IndexError):
        computed.read([5])


def test_the_next_clip_takes_the_place_of_one_that_cannot_be_read(clips, tmp_path):
    bad = Clip(Video("bad.mp4", tmp_path / "bad.mp4"), 0.0)
    store = PixelStore(clip_set([clips[0], bad, bad, clips[1]], [(32, 64)]), tiny_codec(), 0)
    assert store.sizes == [4]
    assert [each.motion_bucket for each in store.read([0, 1, 2, 3])] == [0, 3, 3, 3]
    assert sorted(store.skipped) == [1, 2] and "bad.mp4: no such file" in store.skipped[1]
    last = PixelStore(clip_set([clips[0], bad], [(32, 64)]), tiny_codec(), 0)
    assert [each.motion_bucket for each in last.read([1])] == [0]
    with pytest.raises(UserError, match="none of the 1 clips of a size can be read, first .*bad.mp4: no such file"):
        PixelStore(clip_set([bad]), tiny_codec(), 0).read([0])


def test_a_size_that_does_not_divide_is_told_at_the_start(clips):
    with pytest.raises(UserError, match="30x64"):
        PixelStore(clip_set(clips, [(30, 64)]), tiny_codec())
