"""The latents of all clips, computed once, so that diffusion training never decodes a video or encodes a whole clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.data import Dataset

from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from mobilevd.files import atomic_file
from mobilevd.pixels import to_float
from training.data.clips import Clip, ClipIndex
from training.data.video import read_clip
from training.data.video_stream import VideoError

FORMAT = 1  # raised when the same inputs give other tensors
TENSORS = ("latents", "first_frames", "embeddings")


@dataclass
class LatentDataset(Dataset):
    """The data of N clips that training needs; an item is a dict of `latents`, `first_frame` and `embedding`.

    The first frame is kept as pixels, not as latents, because the conditioning noise is added before encoding.
    """

    latents: torch.Tensor  # (N, T, C, h, w) float32, scaled
    first_frames: torch.Tensor  # (N, 3, H, W) uint8
    embeddings: torch.Tensor  # (N, 1, D) float32
    skipped: list[str] = field(default_factory=list)  # clips that could not be read, one line each

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {
            "latents": self.latents[index],
            "first_frame": self.first_frames[index],
            "embedding": self.embeddings[index],
        }


def build_latents(
    index: ClipIndex,
    codec: Codec,
    height: int,
    width: int,
    num_frames: int,
    fps: float,
    cache_file: Path | str,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> LatentDataset:
    """Encode all clips of `index` at `height` x `width`, or read `cache_file` if it was made from the same inputs.

    The cache is a safetensors file whose metadata holds a key over the clips (file, size, time of change, start), the
    codec's weights and the sizes; with another key, or broken, the cache is made anew. `batch` is the number of frames
    encoded together. A clip that cannot be read is left out and named in `skipped`; UserError if no clip is left.
    `progress(clips done, clips)` is called as it goes; it is not called when the cache is used.
    """
    cache_file = Path(cache_file)
    codec.latent_size(height, width)
    key = cache_key(index, codec, height, width, num_frames, fps)
    cached = _read_cache(cache_file, key)
    if cached is not None:
        return cached
    dataset = _encode_clips(index.clips, codec, height, width, num_frames, fps, batch, progress)
    with atomic_file(cache_file) as temporary:
        tensors = {name: getattr(dataset, name) for name in TENSORS}
        save_file(tensors, temporary, metadata={"key": key, "skipped": json.dumps(dataset.skipped)})
    return dataset


def cache_key(index: ClipIndex, codec: Codec, height: int, width: int, num_frames: int, fps: float) -> str:
    """Hex SHA-256 over everything that the latents depend on."""
    clips = []
    for clip in index.clips:
        stat = clip.video.path.stat()
        clips.append([str(clip.video.path.resolve()), clip.video.offset, stat.st_size, stat.st_mtime_ns, clip.start_s])
    settings = [FORMAT, height, width, num_frames, fps, codec.name, codec.scaling_factor, clips]
    digest = hashlib.sha256(json.dumps(settings).encode())
    tensors = {**dict(codec.named_buffers()), **codec.state_dict()}  # buffers: the shift of the tiny codec
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read_cache(cache_file: Path, key: str) -> LatentDataset | None:
    try:
        with safe_open(cache_file, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in TENSORS}
        return LatentDataset(**tensors, skipped=json.loads(metadata["skipped"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


@torch.no_grad()
def _encode_clips(
    clips: list[Clip],
    codec: Codec,
    height: int,
    width: int,
    num_frames: int,
    fps: float,
    batch: int,
    progress: Callable[[int, int], None] | None,
) -> LatentDataset:
    device = next(codec.parameters()).device
    together = max(1, batch // num_frames)  # clips that are encoded together
    latents, first_frames, embeddings, skipped = [], [], [], []
    for begin in range(0, len(clips), together):
        read: list[np.ndarray] = []
        for clip in clips[begin : begin + together]:
            try:
                read.append(read_clip(clip.video, num_frames, fps, clip.start_s, height, width))
            except VideoError as error:
                skipped.append(str(error))
        if read:
            pixels = torch.from_numpy(np.stack(read)).permute(0, 1, 4, 2, 3)  # (n, T, 3, H, W) uint8
            frames = to_float(pixels).to(device)
            encoded = torch.cat([codec.encode(part).float().cpu() for part in frames.flatten(0, 1).split(batch)])
            latents.append(encoded.unflatten(0, (len(read), num_frames)))  # (n, T, C, h, w)
            first_frames.append(pixels[:, 0].clone())
            embeddings.append(codec.embed_image(frames[:, 0]).float().cpu())  # (n, 1, D)
        if progress is not None:
            progress(min(begin + together, len(clips)), len(clips))
    if not latents:
        raise UserError(f"none of the {len(clips)} clips can be read, first {skipped[0] if skipped else 'none given'}")
    tensors = (torch.cat(parts).contiguous() for parts in (latents, first_frames, embeddings))
    return LatentDataset(*tensors, skipped=skipped)
