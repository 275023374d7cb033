"""Reading ahead: the batch that was announced is taken, others are read when they are asked for, and errors surface."""

from __future__ import annotations

import threading

import pytest
import torch

from mobilevd.errors import UserError
from tests.training.data.clip_sets import clip_set, corpus_clips, tiny_codec, write
from training.data.batch import BatchSource
from training.data.draws import Draws
from training.data.prefetch import Prefetch


def test_what_is_announced_is_loaded_once_and_in_another_thread():
    calls, begun, go = [], threading.Event(), threading.Event()

    def load(key: int) -> int:
        calls.append((key, threading.current_thread() is threading.main_thread()))
        begun.set()
        assert go.wait(20)
        return 10 * key

    prefetch = Prefetch(load)
    prefetch.announce(1)
    prefetch.announce(1)
    assert begun.wait(20)  # it is being loaded while nobody has asked for it
    go.set()
    assert prefetch.take(1) == 10 and calls == [(1, False)]
    assert prefetch.take(1) == 10 and prefetch.take(7) == 70 and calls[1:] == [(1, True), (7, True)]
    for key in range(10):  # plans that change do not fill the memory
        prefetch.announce(key)
    assert len(prefetch._waiting) == 2 and prefetch.take(9) == 90


def test_errors_are_raised_where_the_batch_is_taken():
    def load(key: int) -> int:
        raise UserError(f"shard {key} is gone")

    prefetch = Prefetch(load)
    prefetch.announce(1)
    with pytest.raises(UserError, match="shard 1 is gone"):
        prefetch.take(1)


def test_batches_have_the_same_bits_announced_or_not(tmp_path):
    store = write(tmp_path / "s", clip_set(corpus_clips(tmp_path / "corpus", 6), [(32, 64), (48, 48)]))
    source = BatchSource(store, tiny_codec(), 7.0, torch.device("cpu"), batch_size=2, seed=3)
    places, seen = range(2), set()

    def draw(step: int, phase: int):
        return source.draw(step, phase, places, Draws(3, step, phase, places))

    plain = [draw(step, phase) for step in range(6) for phase in (0, 1)]
    source.announce(0, 0, places)
    for number, expected in enumerate(plain):
        step, phase = divmod(number, 2)
        source.announce(step + phase, 1 - phase, places)
        batch = draw(step, phase)
        seen.add(tuple(batch.latents.shape))
        assert torch.equal(batch.latents, expected.latents) and batch.latents.dtype == torch.float32
        for name in ("image_latents", "image_embedding", "added_time_ids"):
            assert torch.equal(getattr(batch.conditions, name), getattr(expected.conditions, name)), name
    assert seen == {(2, 4, 4, 8, 16), (2, 4, 4, 12, 12)}
    halves = [source.draw(0, 0, [place], Draws(3, 0, 0, [place])) for place in places]
    assert torch.equal(torch.cat([half.latents for half in halves]), plain[0].latents)
    assert torch.equal(plain[0].conditions.added_time_ids[:, 1].sort().values.diff() != 0, torch.tensor([True]))
