"""Clips of procedural videos, and a codec to encode them: small enough for tests of the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from mobilevd.codecs import TinyCodec
from mobilevd.codecs.base import Codec
from training.data.clips import Clip
from training.data.corpus import write_corpus
from training.data.index.build import build_index
from training.data.index.choose import Filters, choose_clips
from training.data.index.rows import ClipSettings
from training.data.sources.source import open_source
from training.data.store.groups import ClipGroup, ClipSet
from training.data.store.place import place_at
from training.data.store.plan import WriteSettings
from training.data.store.read import ShardStore
from training.data.store.write import write_store

FRAMES, FPS = 4, 7.0


def corpus_clips(folder: Path, count: int, clips_per_video: int = 1) -> list[Clip]:
    """Clips of 32x64 pixels; video n lies in the n-th file, and is the same wherever it lies."""
    write_corpus(folder, count, 0, seconds=1.5, height=32, width=64)
    settings = ClipSettings(FRAMES, FPS, clips_per_video)
    file = folder.parent / f"{folder.name}.sqlite"
    return choose_clips(build_index(open_source(folder), settings, file, "none", 0), Filters()).clips


def tiny_codec(seed: int = 0) -> TinyCodec:
    torch.manual_seed(seed)
    codec = TinyCodec(width=8, scaling_factor=2.0, latent_shift=(0.1, 0.2, 0.3, 0.4))
    return codec.requires_grad_(False).eval()


def clip_set(clips: Sequence[Clip], sizes: Sequence[tuple[int, int]] = ((32, 64),)) -> ClipSet:
    """The clips dealt out to the sizes in equal parts; motion buckets count from 0."""
    part = -(-len(clips) // len(sizes))
    groups = []
    for number, (height, width) in enumerate(sizes):
        chosen = clips[number * part : (number + 1) * part]
        groups.append(ClipGroup(height, width, chosen, [float(number * part + k) for k in range(len(chosen))]))
    return ClipSet(groups, FRAMES, FPS)


def write(
    where: Path | str,
    clips: ClipSet,
    codec: Codec | None = None,
    progress: Any = None,
    say: Any = None,
    **settings: Any,
) -> ShardStore:
    """Write a store in this process alone, with a megabyte to a shard: about a hundred clips."""
    chosen = WriteSettings(**{"shard_mb": 1, "workers": 0, **settings})
    return write_store(place_at(where), clips, codec or tiny_codec(), chosen, alone(), progress, say)


def alone() -> PartialState:
    return PartialState(cpu=True)


def fill_shards_with(monkeypatch: Any, clips: int) -> None:
    """Let so many clips fill a shard, whatever their size."""
    monkeypatch.setattr(ClipSet, "clip_bytes", lambda *_: 2**20 // clips)
