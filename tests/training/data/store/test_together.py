"""Several processes write one store: each a share, the same bytes as one alone, and one message if one fails."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from accelerate import PartialState

from mobilevd.errors import UserError
from tests.launch import launch_script
from tests.training.data.clip_sets import clip_set, corpus_clips, fill_shards_with, tiny_codec, write
from training.data.clips import Clip
from training.data.store.pieces import Encoder
from training.data.store.place import place_at
from training.data.store.plan import WriteSettings
from training.data.store.write import write_store
from training.data.videos import Video

VIDEOS = 7
# Everything in one launch, since a process takes longer to import what it needs than to encode.
SCRIPT = """
import sys
from pathlib import Path
from tests.training.data.store.test_together import work
work(Path(sys.argv[1]))
"""


def found(folder: Path) -> list[Clip]:
    return [Clip(Video(path.name, path), 0.1) for path in sorted(folder.glob("*.mp4"))]


def work(folder: Path) -> None:
    """What each process does: a store from the beginning, one that another number of processes began, one that fails."""
    processes = PartialState(cpu=True)
    rank = processes.process_index
    patch, told = pytest.MonkeyPatch(), []
    fill_shards_with(patch, 2)
    clips, encode = clip_set(found(folder / "corpus")), Encoder.encode

    def run(name: str, **settings) -> str:
        encoded = 0

        def counted(self, pixels):
            nonlocal encoded
            encoded += len(pixels)
            if name == "fails" and rank == 1:
                raise UserError("the second process has a fault")
            return encode(self, pixels)

        patch.setattr(Encoder, "encode", counted)
        progress = told.append if name == "fresh" else None
        chosen = WriteSettings(1, 0, **settings)
        try:
            store = write_store(
                place_at(folder / name), clips, tiny_codec(), chosen, processes, progress and (lambda *at: progress(at))
            )
        except (UserError, SystemExit) as error:
            return f"{name}: {error!r} after {encoded}"
        return f"{name}: {encoded} encoded, {store.sizes}"

    lines = [run("fresh"), run("fresh", verify=True), run("begun"), run("fails")]
    last = f"progress {told[-1]}" if told else "no progress"
    (folder / f"said-{rank}.txt").write_text("\n".join([*lines, last]) + "\n")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    corpus_clips(folder / "corpus", VIDEOS)
    clips = clip_set(found(folder / "corpus"))
    with pytest.MonkeyPatch.context() as patch:
        fill_shards_with(patch, 2)
        write(folder / "alone", clips)
        encode, encoded = Encoder.encode, []

        def stopped(self, pixels):
            encoded.append(len(pixels))
            if len(encoded) > 2:
                raise KeyboardInterrupt
            return encode(self, pixels)

        patch.setattr(Encoder, "encode", stopped)
        with pytest.raises(KeyboardInterrupt):
            write(folder / "begun", clips)
    launch_script(folder, SCRIPT, folder)
    return folder


def said(folder: Path, name: str) -> list[str]:
    texts = [(folder / f"said-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    return [line.removeprefix(f"{name}: ") for text in texts for line in text if line.startswith(name)]


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("shard-*.arrow")}


def test_each_encodes_its_share_and_the_content_is_that_of_one(launched: Path) -> None:
    assert said(launched, "fresh") == [
        "4 encoded, [7]", "0 encoded, [7]",  # the first, and again with all checksums read
        "3 encoded, [7]", "0 encoded, [7]",
    ]  # fmt: skip
    assert content(launched / "fresh") == content(launched / "alone") and len(content(launched / "alone")) == 4
    assert (launched / "fresh" / "manifest.json").read_bytes() == (launched / "alone" / "manifest.json").read_bytes()
    assert said(launched, "progress") == ["progress (7, 7)"]  # of both, told by the first


def test_more_processes_go_on_where_one_stopped(launched: Path) -> None:
    encoded = [int(line.split()[0]) for line in said(launched, "begun")]
    assert sum(encoded) == 7 - 4 and min(encoded) > 0  # two shards were whole
    assert content(launched / "begun") == content(launched / "alone")


def test_all_stop_with_one_message_when_one_fails(launched: Path) -> None:
    first, second = said(launched, "fails")
    assert second.startswith("UserError('the second process has a fault')")
    assert first.startswith("ToldByAnother(")  # it says nothing itself
    assert "manifest.json" in {path.name for path in (launched / "fails").iterdir()}
