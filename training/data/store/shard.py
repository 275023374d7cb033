"""A shard: an Arrow file with one record batch per clip, so that a clip is one piece of the file.

Anybody's tools open it (`pyarrow.ipc.open_file(...).get_batch(n)`); here a clip is read by its position alone, with one
`pread` or one range request, where Arrow's own reader of files would ask three times.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from mobilevd.errors import UserError
from training.data.batch import StoredClip
from training.data.store.decoding import uncompressed


def schema_of(latents: tuple[int, ...], embedding: int) -> pa.Schema:
    """Columns of a shard whose clips have latents of this shape and an embedding of this width, both float16."""
    return pa.schema(
        [
            ("clip", pa.string()),  # name of the video, and the clip's start in seconds
            ("latents", pa.fixed_shape_tensor(pa.float16(), latents)),
            ("embedding", pa.list_(pa.float16(), embedding)),
            ("motion_bucket", pa.float32()),
            ("first_frame", pa.binary()),  # WebP without loss
        ]
    )


class ShardFile:
    """Writes the clips of one shard, one after the other."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._sink = pa.OSFile(str(file), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)
        self.bounds = [0]

    def add(self, clip: str, latents: np.ndarray, embedding: np.ndarray, motion_bucket: float, frame: bytes) -> None:
        """Write a clip: latents (T, C, h, w) and embedding (D,) float16, first frame compressed."""
        schema = self._schema
        values = pa.FixedSizeListArray.from_arrays(pa.array(latents.reshape(-1)), latents.size)
        columns = [
            pa.array([clip], pa.string()),
            pa.ExtensionArray.from_storage(cast(Any, schema.field("latents").type), values),
            pa.FixedSizeListArray.from_arrays(pa.array(embedding), embedding.size),
            pa.array([motion_bucket], pa.float32()),
            pa.array([frame], pa.binary()),
        ]
        batch = pa.record_batch(columns, schema=schema)
        self._writer.write_batch(batch)
        end = self._sink.tell()
        if len(self.bounds) == 1:  # the file's own head was written with the first clip
            self.bounds = [end - pa.ipc.get_record_batch_size(batch)]
        self.bounds.append(end)

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._sink.close()


def clip_from_bytes(data: bytes, schema: pa.Schema, shown: str) -> StoredClip:
    """The clip in a piece of a shard. UserError names the shard if the piece is damaged."""
    try:
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(data), schema)
        batch.validate(full=True)
        latents = cast(Any, batch.column(1)).to_numpy_ndarray()[0]
        embedding = cast(Any, batch.column(2)).flatten().to_numpy(zero_copy_only=True)
        frame = uncompressed(batch.column(4)[0].as_py())
    except (
        pa.ArrowException,
        EOFError,
        OSError,
        ValueError,
        IndexError,
        TypeError,
        AttributeError,
        SyntaxError,
    ) as error:
        # SyntaxError: PIL's for a broken picture
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{shown}: damaged ({told}); `mobilevd cache` makes it again") from None
    return StoredClip(
        torch.from_numpy(np.array(latents)),  # (T, C, h, w) float16; a copy, or the whole piece would be kept
        torch.from_numpy(frame).permute(2, 0, 1),  # (3, H, W) uint8
        torch.from_numpy(np.array(embedding))[None],  # (1, D) float16
        float(batch.column(3)[0].as_py()),
    )
