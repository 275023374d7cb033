"""Reading a store: by several threads, from object storage, with faults in the middle, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
import torch

from mobilevd.errors import UserError
from tests.source import ROOT
from tests.training.data.clip_sets import clip_set, corpus_clips, fill_shards_with, tiny_codec, write
from training.data.batch import StoredClip
from training.data.clips import Clip
from training.data.store.key import key_of
from training.data.store.place import place_at
from training.data.store.read import open_store


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return corpus_clips(tmp_path_factory.mktemp("corpus"), 5)


@pytest.fixture(autouse=True)
def two_in_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_shards_with(monkeypatch, 2)


@pytest.fixture
def memory_url() -> Iterator[str]:
    yield "memory://bucket/clips"
    fsspec.filesystem("memory").store.clear()


def same(one: StoredClip, other: StoredClip) -> bool:
    return all(
        torch.equal(torch.as_tensor(getattr(one, name)), torch.as_tensor(getattr(other, name)))
        for name in ("latents", "first_frame", "embedding", "motion_bucket")
    )


def test_threads_read_at_a_time(clips, tmp_path):
    store = write(tmp_path / "s", clip_set(clips))
    alone = store.read(range(5))
    with ThreadPoolExecutor(4) as pool:
        read = pool.map(lambda number: (number, store.read([number])[0]), [0, 3, 4, 1, 2] * 20)
        assert all(same(clip, alone[number]) for number, clip in read)


def test_object_storage_holds_the_same(clips, tmp_path, memory_url):
    local, remote = write(tmp_path / "s", clip_set(clips)), write(memory_url, clip_set(clips))
    names = [path.rpartition("/")[2] for path in fsspec.filesystem("memory").ls("/bucket/clips", detail=False)]
    assert names.count("shard-000002.arrow") == 1 and "manifest.json" in names
    opened = open_store(place_at(memory_url), key_of(clip_set(clips), tiny_codec()))
    assert opened.sizes == remote.sizes == [5]
    assert all(map(same, opened.read([4, 1, 0]), local.read([4, 1, 0])))
    fsspec.filesystem("memory").rm("/bucket/clips/shard-000001.arrow")
    with pytest.raises(UserError, match="memory://bucket/clips/shard-000001.arrow: cannot be read any more"):
        opened.read([0, 2])
    with pytest.raises(UserError, match="memory://bucket/clips/shard-000001.arrow: is missing"):
        open_store(place_at(memory_url))
    told: list[str] = []
    assert same(write(memory_url, clip_set(clips), say=told.append).read([2])[0], local.read([2])[0])
    assert len(told) == 1


def test_a_store_of_something_else_on_object_storage_is_named_and_renewed(clips, memory_url):
    write(memory_url, clip_set(clips))
    with pytest.raises(UserError, match="memory://bucket/clips: its clips were encoded from 5 clips"):
        write(memory_url, clip_set(clips[:3]))
    assert write(memory_url, clip_set(clips[:3]), renew=True).sizes == [3]


def test_a_url_that_nothing_reads_is_one_line():
    with pytest.raises(UserError, match="nonsense://bucket: .*nonsense"):
        place_at("nonsense://bucket")


def test_a_shard_that_goes_while_training_is_named(clips, tmp_path):
    store = write(tmp_path / "s", clip_set(clips))
    cut = tmp_path / "s" / "shard-000001.arrow"
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 4])
    with pytest.raises(
        UserError, match=r"shard-000001.arrow: ends before the clip at byte \d+: it was cut off; `mobilevd cache`"
    ):
        store.read([0, 3])
    cut.write_bytes(whole[:1000] + bytes(len(whole) - 1000))
    with pytest.raises(UserError, match="shard-000001.arrow: damaged"):
        store.read([3])
    cut.unlink()
    with pytest.raises(UserError, match="shard-000001.arrow: cannot be read any more: No such file"):
        store.read([3])
    assert store.read([0, 4])


def test_what_is_wrong_is_told_before_training(clips, tmp_path):
    place = place_at(tmp_path / "s")
    with pytest.raises(UserError, match="there are no encoded clips"):
        open_store(place)
    write(tmp_path / "s", clip_set(clips))
    with pytest.raises(UserError, match="with the codec tiny .*, not with the codec tiny .*; give another data.cache"):
        open_store(place, key_of(clip_set(clips), tiny_codec(1)))
    shard = tmp_path / "s" / "shard-000001.arrow"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-000001.arrow: has \d+ bytes, not the \d+ that were written"):
        open_store(place)
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    (tmp_path / "s" / "manifest.json").write_text(json.dumps(manifest | {"shards": manifest["shards"][1:]}))
    with pytest.raises(UserError, match="manifest.json: is no cache of encoded clips"):
        open_store(place)
    (tmp_path / "s" / "manifest.json").write_text(json.dumps(manifest | {"shards": None}))
    with pytest.raises(UserError, match="not all of its clips are encoded"):
        open_store(place)


@pytest.mark.parametrize("bounds", [[0, 10**9], [5, 4], [-8, 40], []])
def test_positions_outside_of_a_shard_are_refused(clips, tmp_path, bounds):
    write(tmp_path / "s", clip_set(clips))
    file = tmp_path / "s" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["shards"][0]["bounds"] = bounds
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="lie outside of their shard"):
        open_store(place_at(tmp_path / "s"))


# In a process of its own, since memory is that of the whole process. Files without content stand for 43 GB of shards.
MEMORY = """
import json, os, resource, sys
from pathlib import Path
from training.data.batch import BatchSource
from training.data.order import Order
from training.data.store.place import place_at
from training.data.store.read import open_store

folder, clips, size, per_shard = Path(sys.argv[1]), 100_000, 430_000, 2_500
manifest = json.loads((folder / "manifest.json").read_text())
(section,) = manifest["sections"]
real = manifest["shards"][0]
bounds = [real["bounds"][0] + n * size for n in range(per_shard + 1)]
shards = []
for number in range(clips // per_shard):
    file = folder / f"shard-{number:06d}.arrow"
    with open(file, "wb") as sparse:
        sparse.truncate(bounds[-1])
    shards.append({**real, "number": number, "bytes": bounds[-1], "bounds": bounds})
section |= {"clips": clips, "clips_per_shard": per_shard}
(folder / "manifest.json").write_text(json.dumps(manifest | {"shards": shards}))
del manifest, shards, bounds

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before = resident()
store = open_store(place_at(folder))
assert store.sizes == [clips], store.sizes
order, seen = Order(store.sizes, 8, 0), set()
for step in range(100):
    for number in order.clips(step, 0, range(8)):
        begin = number % per_shard * size
        store.place.read(f"shard-{number // per_shard:06d}.arrow", begin, begin + size)
        seen.add(number)
assert len(seen) == 800, len(seen)
print(resident() - before)
"""


def test_memory_is_flat_in_the_number_of_clips(clips, tmp_path):
    write(tmp_path / "s", clip_set(clips[:2]))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path / "s")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100e6, done.stdout  # of the 43 GB that the shards have
