"""The store's content: that of the clips, whole or not there, and made anew when something that matters changes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from mobilevd.errors import UserError
from mobilevd.pixels import to_float
from tests.training.data.clip_sets import FPS, FRAMES, clip_set, corpus_clips, fill_shards_with, tiny_codec, write
from training.data.clips import Clip
from training.data.store import write as write_module
from training.data.store.pieces import Encoder
from training.data.store.place import LocalPlace, place_at
from training.data.store.plan import WriteSettings, find_plan
from training.data.video import read_clip
from training.data.videos import Video


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return corpus_clips(tmp_path_factory.mktemp("corpus"), 5)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_shards_with(monkeypatch, 2)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.arrow"))}


def test_clips_of_every_size_are_those_of_their_videos(clips, small_shards, tmp_path):
    codec = tiny_codec()
    store = write(tmp_path / "s", clip_set(clips, [(32, 64), (48, 48)]), codec)
    assert store.sizes == [3, 2] and store.skipped == [] and len(content(tmp_path / "s")) == 3
    for number, stored in enumerate(store.read(range(5))):
        height, width = (32, 64) if number < 3 else (48, 48)
        pixels = torch.from_numpy(read_clip(clips[number].video, FRAMES, FPS, clips[number].start_s, height, width))
        frames = to_float(pixels.permute(0, 3, 1, 2))
        assert torch.equal(stored.first_frame, pixels[0].permute(2, 0, 1))
        assert stored.latents.dtype == stored.embedding.dtype == torch.float16
        torch.testing.assert_close(stored.latents.float(), codec.encode(frames), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(stored.embedding.float(), codec.embed_image(frames[:1])[0], rtol=1e-3, atol=1e-3)
        assert stored.motion_bucket == number
    again = store.read([4, 0])
    assert [each.motion_bucket for each in again] == [4, 0]
    for outside in (-1, 5):
        with pytest.raises(IndexError):
            store.read([outside])


def test_other_tools_open_a_shard(clips, tmp_path):
    import pyarrow as pa

    write(tmp_path / "s", clip_set(clips))
    with pa.ipc.open_file(str(tmp_path / "s" / "shard-000000.arrow")) as file:
        assert file.num_record_batches == 5
        batch = file.get_batch(2)
    assert batch.schema.names == ["clip", "latents", "embedding", "motion_bucket", "first_frame"]
    assert batch.column("latents").to_numpy_ndarray().shape == (1, FRAMES, 4, 8, 16)
    assert batch.column("clip")[0].as_py().startswith(clips[2].video.name)


def test_what_is_whole_is_not_encoded_again(clips, small_shards, tmp_path, monkeypatch):
    folder, calls = tmp_path / "s", []
    write(folder, clip_set(clips))
    before = content(folder)
    monkeypatch.setattr(Encoder, "__init__", lambda *_: pytest.fail("encoded again"))
    write(folder, clip_set(clips), progress=lambda *at: calls.append(at), verify=True)
    assert content(folder) == before and calls == []


def test_a_kill_loses_the_shard_under_way_at_most(clips, small_shards, tmp_path, monkeypatch):
    whole, folder, encoded = tmp_path / "whole", tmp_path / "s", []
    write(whole, clip_set(clips))
    encode = Encoder.encode

    def killed(self, pixels):
        encoded.append(len(pixels))
        if sum(encoded) > 3:
            raise KeyboardInterrupt
        return encode(self, pixels)

    monkeypatch.setattr(Encoder, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        write(folder, clip_set(clips))
    assert sorted(content(folder)) == ["shard-000000.arrow"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".tmp-")]
    encoded[:] = [-10]
    told: list[tuple[int, int]] = []
    store = write(folder, clip_set(clips), progress=lambda *at: told.append(at), shard_mb=7)  # the size stays as begun
    assert told[-1] == (3, 3) and len(store) == 5
    assert content(folder) == content(whole)


def test_a_broken_video_costs_a_line_and_no_shard(clips, small_shards, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    mixed = [clips[0], Clip(Video("bad.mp4", bad), 0.0), *clips[1:]]
    for _ in range(2):  # fresh, then as it is kept
        store = write(tmp_path / "s", clip_set(mixed))
        assert store.sizes == [5] and [each.motion_bucket for each in store.read(range(5))] == [0, 2, 3, 4, 5]
        assert len(store.skipped) == 1 and "bad.mp4: broken" in store.skipped[0]
    (row,) = json.loads((tmp_path / "s" / "report.json").read_text())["skipped"]
    assert row["clip"] == "bad.mp4 at 0.000 s" and row["shard"] == "shard-000000.arrow"
    for _ in range(2):
        with pytest.raises(UserError, match="none of the 1 clips can be encoded, first .*bad.mp4: broken"):
            write(tmp_path / "none", clip_set([mixed[1]]))


def test_latents_that_float16_does_not_hold_are_left_out(clips, tmp_path):
    codec = tiny_codec()
    largest = write(tmp_path / "fine", clip_set(clips), codec).read(range(5))
    peaks = sorted(float(each.latents.abs().max()) for each in largest)
    codec = tiny_codec()
    codec.set_latent_statistics(2.0 * 65504 / ((peaks[-1] + peaks[-2]) / 2), (0.1, 0.2, 0.3, 0.4))
    store = write(tmp_path / "s", clip_set(clips), codec)
    assert len(store) == 4 and "beyond what float16 holds" in store.skipped[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("codec", "encoded with the codec tiny [0-9a-f]{16}, not with the codec tiny [0-9a-f]{16}"),
        ("size", "encoded at 32x64, not at 48x48"),
        ("clips", "encoded from 5 clips [0-9a-f]+, not from 4 clips"),
        ("file", "encoded from 5 clips [0-9a-f]+, not from 5 clips"),
    ],
)
def test_a_store_of_something_else_is_named_or_made_anew(clips, tmp_path, change, told):
    moved = []
    for clip in clips:
        file = tmp_path / clip.video.path.name
        file.write_bytes(clip.video.path.read_bytes())
        moved.append(Clip(Video(clip.video.name, file), clip.start_s))
    folder = tmp_path / "s"
    write(folder, clip_set(moved))
    (folder / "notes.txt").write_text("the user's")
    changed, codec = clip_set(moved), tiny_codec()
    if change == "codec":
        codec = tiny_codec(1)
    elif change == "size":
        changed = clip_set(moved, [(48, 48)])
    elif change == "clips":
        changed = clip_set(moved[:4])
    else:
        os.utime(moved[0].video.path, ns=(0, 0))
    before = content(folder)
    with pytest.raises(UserError, match=told + ".*; give another data.cache"):
        write(folder, changed, codec)
    assert content(folder) == before
    (folder / "notes.txt").unlink()
    write(folder, changed, codec, renew=True)
    assert content(folder) != before or change == "file"
    write(folder, changed, codec)  # and now it is of this


def test_files_of_others_stay(clips, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "precious.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty .precious.txt, .* is no cache of encoded clips"):
        write(folder, clip_set(clips), renew=True)
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]
    (folder / "manifest.json").write_text('{"kind": "another program"}')
    with pytest.raises(UserError, match="manifest.json: is no cache of encoded clips"):
        write(folder, clip_set(clips), renew=True)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json: cannot be read as JSON"):
        write(folder, clip_set(clips), renew=True)


def test_shards_that_are_not_as_written_are_told_and_made_again(clips, small_shards, tmp_path):
    folder, told = tmp_path / "s", []
    write(folder, clip_set(clips))
    before = content(folder)
    (folder / "shard-000000.arrow").unlink()
    cut = folder / "shard-000001.arrow"
    size = cut.stat().st_size
    cut.write_bytes(cut.read_bytes()[:-10])
    write(folder, clip_set(clips), say=told.append)
    assert content(folder) == before
    assert [line.rpartition("/")[2] for line in told] == [
        "shard-000000.arrow: is missing; it is made again",
        f"shard-000001.arrow: has {size - 10} bytes, not the {size} that were written; it is made again",
    ]
    data = bytearray(cut.read_bytes())
    data[len(data) // 2] ^= 1
    cut.write_bytes(data)
    write(folder, clip_set(clips), say=told.append)
    assert len(told) == 2  # the size is right: only the checksum tells
    write(folder, clip_set(clips), say=told.append, verify=True)
    assert told[2].endswith("shard-000001.arrow: its checksum is wrong; it is made again")
    assert content(folder) == before


def test_a_full_disk_is_one_line_and_keeps_finished_shards(clips, small_shards, tmp_path, monkeypatch):
    folder = tmp_path / "s"
    add, written = write_module.ShardFile.add, []

    def full(self, *args):
        written.append(1)
        if len(written) > 3:
            raise OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device")
        add(self, *args)

    monkeypatch.setattr(write_module.ShardFile, "add", full)
    with pytest.raises(UserError, match="shard-000001.arrow: the disk is full"):
        write(folder, clip_set(clips))
    assert sorted(content(folder)) == ["shard-000000.arrow"]
    monkeypatch.undo()
    fill_shards_with(monkeypatch, 2)
    assert len(write(folder, clip_set(clips))) == 5


def test_too_little_room_is_told_before_the_first_clip(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(LocalPlace, "free_bytes", lambda self: 1000)
    monkeypatch.setattr(Encoder, "__init__", lambda *_: pytest.fail("encoded"))
    with pytest.raises(UserError, match="the clips take about 0.0 GB, and 0.0 GB are free there"):
        write(tmp_path / "s", clip_set(clips))
    assert not list((tmp_path / "s").glob("*.json"))


def test_a_missing_video_and_an_indivisible_size_are_told_first(clips, tmp_path):
    gone = clip_set([Clip(Video("gone.mp4", tmp_path / "gone.mp4"), 0.0)])
    with pytest.raises(UserError, match="gone.mp4: cannot be read"):
        write(tmp_path / "s", gone)
    with pytest.raises(UserError, match="30x64 .* does not divide by 4"):
        write(tmp_path / "s", clip_set(clips, [(30, 64)]))
    assert not (tmp_path / "s").exists()


def test_the_plan_writes_nothing(clips, tmp_path):
    plan = find_plan(place_at(tmp_path / "s"), clip_set(clips), tiny_codec(), WriteSettings())
    assert plan.to_do == [0] and not (tmp_path / "s").exists()
