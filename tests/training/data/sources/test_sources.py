"""Sources of videos: folders, manifests, shards, URLs and lists, and what is told where they are wrong."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mobilevd.errors import UserError
from tests.training.data.numbered import read_number, write_numbered
from training.data.sources.lists import listed_names
from training.data.sources.shard_names import expand_braces
from training.data.sources.source import open_source
from training.data.video import read_clip
from training.data.video_stream import VideoError, probe
from training.data.videos import Video

CONTAINERS = ("mp4", "mkv", "avi", "ts", "mov", "webm", "flv")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Numbered videos in many containers, 20 frames at 10 per second."""
    root = tmp_path_factory.mktemp("videos")
    for suffix in CONTAINERS:
        write_numbered(root / f"{suffix}.{suffix}", 20, 10, codec="libvpx" if suffix == "webm" else "libx264")
    return root


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def names(place: Path | str, **options) -> list[str]:
    return [video.name for video in open_source(place, **options)]


def test_members_of_a_shard_are_read_in_place(videos, tmp_path):
    """Every container gives the same frames as the file of its own, from the beginning and after a seek."""
    files = sorted(videos.iterdir())
    shard(tmp_path / "a.tar", {"x.json": b"{}", **{f"sub/{file.name}": file.read_bytes() for file in files}})
    source = open_source(tmp_path / "a.tar")
    assert [video.name for video in source] == [f"a.tar/sub/{file.name}" for file in files]
    for video, file in zip(source, files, strict=True):
        assert video.size == file.stat().st_size and probe(video) == probe(file)
        for start_s in (0.0, 1.2):
            shown = read_clip(video, 4, 10, start_s, 32, 64)
            assert np.array_equal(shown, read_clip(file, 4, 10, start_s, 32, 64))
            if file.suffix == ".mp4":
                assert [read_number(frame) for frame in shown] == [round(start_s * 10) + k for k in range(4)]


def test_patterns_and_folders_of_shards(videos, tmp_path):
    data = (videos / "mp4.mp4").read_bytes()
    for number in range(8, 12):
        (tmp_path / f"part-{number % 2}").mkdir(exist_ok=True)
        shard(tmp_path / f"part-{number % 2}" / f"{number:03d}.tar", {"v.mp4": data})
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{0..1}/{2..3}{x}.tar") == ["0/2{x}.tar", "0/3{x}.tar", "1/2{x}.tar", "1/3{x}.tar"]
    (tmp_path / "loose.mp4").write_bytes(data)
    folder = ["loose.mp4", *(f"part-{n % 2}/{n:03d}.tar/v.mp4" for n in (8, 10, 9, 11))]
    assert names(tmp_path) == folder
    shard(tmp_path / "part-0" / "009.tar", {"v.mp4": data})
    assert names(tmp_path / "part-{0..1}" / "{009..009}.tar") == ["part-0/009.tar/v.mp4", "part-1/009.tar/v.mp4"]
    assert names(tmp_path / "part-0" / "{008..009}.tar") == ["008.tar/v.mp4", "009.tar/v.mp4"]
    with pytest.raises(UserError, match=r"2 of 4 shards are missing: .*008.tar, .*010.tar$"):
        open_source(tmp_path / "part-1" / "{008..011}.tar")
    for pattern, text in (("{9..1}.tar", r"range \{9..1\} is empty"), ("{0..9999999}.tar", "more than 1,000,000")):
        with pytest.raises(UserError, match=text):
            open_source(pattern)


@pytest.mark.parametrize("cut", ["in a member", "in a header", "between members"])
def test_truncated_shards_are_told_with_what_was_found(videos, tmp_path, cut):
    data = (videos / "mp4.mp4").read_bytes()
    path = shard(tmp_path / "a.tar", {f"{n}.mp4": data for n in range(4)})
    member = 512 + -(-len(data) // 512) * 512
    at = {"in a member": 2 * member + 600, "in a header": 2 * member + 100, "between members": 2 * member}[cut]
    path.write_bytes(path.read_bytes()[:at])
    shard(tmp_path / "b.tar", {"0.mp4": data})
    with pytest.raises(
        UserError, match=r"1 of 2 shards cannot be used: .*a.tar: cut off or damaged .*after 2 whole vi"
    ):
        open_source(tmp_path)
    # a shard that is cut off later on, when its index is there already
    with pytest.raises(VideoError, match=r"a.tar:3.mp4: cut off: a.tar ends \d+ bytes before it does"):
        probe(Video("a.tar/3.mp4", path, 3 * member + 512, len(data)))


def test_files_that_are_no_shards(tmp_path):
    (tmp_path / "a.tar").write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(UserError, match="a.tar: compressed; unpack it"):
        open_source(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match="a.tar: no tar file"):
        open_source(tmp_path)
    shard(tmp_path / "a.tar", {"notes.txt": b"x"})
    with pytest.raises(UserError, match=r"no video file in it \(looked for .*\.mp4.*, and .tar shards"):
        open_source(tmp_path)


def test_links_in_shards_lead_nowhere(videos, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.add(videos / "mp4.mp4", "../../v.mp4")
    assert names(tmp_path) == ["a.tar/../../v.mp4"]  # a name alone: nothing is ever written by it


def test_manifests(videos, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).write_bytes((videos / "mp4.mp4").read_bytes())
    outside = videos / "mkv.mkv"
    rows = [("in/a.mp4", "", "", "a, with comma"), ("./in/b.mp4", "0.5", "1.5", ""), (str(outside), "1", "", "")]
    table = "\n".join(["path,start,end,caption", *(f'{a},{b},{c},"{d}"' for a, b, c, d in rows), "in/a.mp4,,,again"])
    (tmp_path / "m.csv").write_text("\ufeff" + table)
    lines = [{"path": a, "start": float(b) if b else None, "end": float(c) if c else None} for a, b, c, _ in rows]
    (tmp_path / "m.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    expected = [
        Video("in/a.mp4", tmp_path / "in/a.mp4"),
        Video("in/b.mp4#0.5-1.5", tmp_path / "in/b.mp4", start_s=0.5, end_s=1.5),
        Video(f"{outside}#1-", outside, start_s=1.0),
    ]
    assert open_source(tmp_path / "m.csv") == open_source(tmp_path / "m.jsonl") == expected
    assert [video.whole_name for video in expected] == ["in/a.mp4", "in/b.mp4", str(outside)]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("file\na.mp4", "line 1: no column `path`"),
        ("path\nsub/../../a.mp4", "line 2: sub/../../a.mp4 leaves the manifest's folder"),
        ("path\n..", "line 2: .. leaves the manifest's folder"),
        ("path,start\na.mp4,soon", "line 2: `start` is 'soon': seconds"),
        ("path,start\na.mp4,-1", "line 2: `start` is '-1': seconds"),
        ("path,start,end\na.mp4,2,2", "line 2: the part ends at 2 s, which is not after its start at 2 s"),
        ("path,start\n,3", "line 2: no `path`"),
        ("path\nx\0y.mp4", "line 2: no `path`"),
        (
            "path\n" + "\n".join(f"{n}.mp4" for n in range(9)),
            r"9 of its 9 files are missing \(0.mp4, 1.mp4, 2.mp4 and 6",
        ),
    ],
)
def test_bad_manifests(tmp_path, content, text):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(UserError, match=f"m.csv.*{text}"):
        open_source(tmp_path / "m.csv")


@pytest.mark.parametrize("content", ["[]", "{", "[" * 9000, '{"path": 3}', '{"path": "a", "end": true}', "\xff"])
def test_bad_lines_of_json(tmp_path, content):
    (tmp_path / "m.jsonl").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="m.jsonl"):
        open_source(tmp_path / "m.jsonl")
    with pytest.raises(UserError, match="gone.csv does not exist: a manifest"):
        open_source(tmp_path / "gone.csv")


@pytest.mark.parametrize("arranged", ["classes", "flat", "deeper", "shards"])
def test_ucf_lists(videos, tmp_path, arranged):
    data = (videos / "avi.avi").read_bytes()
    paths = [f"{name}/v_{name}_g{n:02d}_c01.avi" for name in ("Archery", "YoYo") for n in (1, 2, 3)]
    (tmp_path / "lists").mkdir()
    (tmp_path / "v").mkdir()
    (tmp_path / "lists" / "trainlist01.txt").write_text(
        "".join(f"{path} {n // 3 + 1}\r\n" for n, path in enumerate(paths) if n % 3)
    )
    (tmp_path / "lists" / "testlist01.txt").write_text("\n".join(paths[::3]))
    if arranged == "shards":
        shard(tmp_path / "v" / "0.tar", {path: data for path in paths})
    for path in paths if arranged != "shards" else ():
        file = tmp_path / "v" / {"classes": path, "flat": Path(path).name, "deeper": f"UCF-101/{path}"}[arranged]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    train = names(tmp_path / "v", list_file=tmp_path / "lists" / "trainlist01.txt")
    test = names(tmp_path / "v", list_file=tmp_path / "lists" / "testlist01.txt")
    assert len(train) == 4 and len(test) == 2
    assert {name.rpartition("/")[2] for name in test} == {Path(path).name for path in paths[::3]}
    assert sorted(train + test) == names(tmp_path / "v")


def test_lists_that_do_not_fit(tmp_path):
    file = tmp_path / "list.txt"
    there = ["a/x 1.mp4", "b/y.mp4", "c/y.mp4"]
    file.write_text("".join(f"a/{n}.avi 1\n" for n in range(7)) + "b/y.mp4\n")
    with pytest.raises(
        UserError, match=r"list.txt: 7 of its 8 videos are not in DIR \(a/0.avi, a/1.avi, a/2.avi and 4 m"
    ):
        listed_names(there, file, "DIR")
    file.write_text("y.mp4")
    with pytest.raises(UserError, match=r"list.txt, line 1: y.mp4 fits 2 videos of DIR \(b/y.mp4, c/y.mp4\)"):
        listed_names(there, file, "DIR")
    file.write_text("a/x 1.mp4\n")
    assert listed_names(there, file, "DIR") == {"a/x 1.mp4"}
    for content, text in (("\n\n", "an empty list"), ("\0", "1 of its 1 videos")):
        file.write_text(content)
        with pytest.raises(UserError, match=text):
            listed_names(there, file, "DIR")
    with pytest.raises(UserError, match="gone.txt: cannot be read as a list"):
        listed_names(there, tmp_path / "gone.txt", "DIR")


def test_shards_at_a_url_are_fetched_once_and_whole(videos, tmp_path, monkeypatch):
    import fsspec

    remote = fsspec.filesystem("memory")
    data = (videos / "mp4.mp4").read_bytes()
    for number in range(2):
        path = shard(tmp_path / f"{number}.tar", {"v.mp4": data})
        remote.pipe_file(f"/bucket-a/s-{number}.tar", path.read_bytes())
    url, cache, seen = "memory://bucket-a/s-{0..1}.tar", tmp_path / "cache", []
    source = open_source(url, cache=cache, progress=lambda *done: seen.append(done))
    assert [video.name for video in source] == ["s-0.tar/v.mp4", "s-1.tar/v.mp4"] and seen == [(1, 2), (2, 2)]
    assert read_number(read_clip(source[1], 1, 10, 0.7, 32, 64)[0]) == 7
    remote.rm("/bucket-a", recursive=True)
    assert open_source(url, cache=cache) == source  # from the cache
    with pytest.raises(UserError, match="^memory://bucket-a/s-2.tar: no such shard, or its server"):
        open_source("memory://bucket-a/s-{0..2}.tar", cache=cache)
    assert not [file for file in cache.rglob("*") if file.is_file() and file.suffix != ".tar"]
    remote.pipe_file("/bucket-a/s-3.tar", b"0" * 5000)
    monkeypatch.setattr(type(remote), "info", lambda self, path: {"size": 6000})
    with pytest.raises(UserError, match="^memory://bucket-a/s-3.tar: 5000 of 6000 bytes came"):
        open_source("memory://bucket-a/s-3.tar", cache=cache)
    assert len([file for file in cache.rglob("*") if file.is_file()]) == 2


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nosuch://a/b.tar", "nosuch://a/b.tar: .*nosuch"),
        ("memory://a/b.mp4", "memory://a/b.mp4: videos at a URL are read from .tar shards"),
        ("memory://me:secret@a/b.tar?signature=secret", "^memory://a/b.tar: no such shard, or"),
    ],
)
def test_bad_urls(tmp_path, url, text):
    with pytest.raises(UserError, match=text) as caught:
        open_source(url, cache=tmp_path)
    assert "secret" not in str(caught.value)


def test_places_that_are_no_source(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist: a folder of videos, a .csv"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file"):
        open_source(f"file://{tmp_path}/file")
