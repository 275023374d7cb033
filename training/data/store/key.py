"""The key of a store: everything that its latents depend on, kept in parts so that a difference can be named."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from training.data.store.groups import ClipGroup, ClipSet

FORMAT = 1  # raised when the same inputs give other latents, or another file

_codecs: WeakKeyDictionary[Codec, str] = WeakKeyDictionary()  # 3 GB of SVD's weights are read once


def key_of(clips: ClipSet, codec: Codec) -> dict[str, Any]:
    """The key of these clips, encoded by this codec. UserError for a video that is not there."""
    return {
        "format": FORMAT,
        "codec": f"{codec.name} {codec_hash(codec)[:16]}",
        "sizes": [_size(group) for group in clips.groups],
        "num_frames": clips.num_frames,
        "fps": clips.fps,
        "clips": f"{len(clips)} clips {_clips_hash(clips)[:32]}",
        "motion_buckets": _hash([list(map(float, group.motion_buckets)) for group in clips.groups])[:16],
    }


def _size(group: ClipGroup) -> str:
    """Height and width, and the crop where it is stretched to them."""
    size = f"{group.height}x{group.width}"
    return f"{size} (crop {group.crop:.4f})" if group.is_stretched else size


def codec_hash(codec: Codec) -> str:
    """Hex SHA-256 over a codec's weights, buffers and scale; computed once for an object."""
    if codec not in _codecs:
        digest = hashlib.sha256(f"{codec.name} {codec.scaling_factor}".encode())
        tensors = {**dict(codec.named_buffers()), **codec.state_dict()}  # buffers: the shift of the tiny codec
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        _codecs[codec] = digest.hexdigest()
    return _codecs[codec]


def difference(there: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """What differs between two keys, in words; None if nothing does."""
    words = {
        "format": "in a form of version {}",
        "codec": "with the codec {}",
        "sizes": "at {}",
        "num_frames": "of {} frames",
        "fps": "at {} fps",
        "clips": "from {}",
        "motion_buckets": "with motion buckets {}",
    }
    told = []
    for part, phrase in words.items():
        if there.get(part) != wanted[part]:
            have, want = (phrase.format(_shown(key.get(part))) for key in (there, wanted))
            told.append(f"{have}, not {want}")
    return "; ".join(told) or None


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _clips_hash(clips: ClipSet) -> str:
    """Over every clip's video (name, part of the file, the file's size and time of change) and start, in order."""
    status: dict[Path, tuple[int, int]] = {}
    rows = []
    for group in clips.groups:
        rows.append(len(group.clips))
        for clip in group.clips:
            video = clip.video
            if video.path not in status:
                try:
                    found = os.stat(video.path)
                except OSError as error:
                    raise UserError(f"{video.path}: cannot be read: {error.strerror}") from None
                status[video.path] = found.st_size, found.st_mtime_ns
            rows.append([video.name, video.offset, video.size, *status[video.path], clip.start_s])
    return _hash(rows)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
