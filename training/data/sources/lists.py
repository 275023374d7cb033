"""Lists that choose among the videos of a source, one a line, as UCF-101's splits are given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mobilevd.errors import UserError
from training.data.sources.missing import first_few
from training.data.videos import Video


def listed(videos: Iterable[Video], list_file: Path, source: str) -> list[Video]:
    """The videos of a source that a list names, in the order of the source; all parts of those that come in parts.

    As `listed_names` finds them.
    """
    videos = list(videos)
    names = listed_names((video.whole_name for video in videos), list_file, source)
    return [video for video in videos if video.whole_name in names]


def listed_names(names: Iterable[str], list_file: Path, source: str) -> set[str]:
    """Those of the `names` that a list names.

    A line is a path, perhaps with the number of a class behind it: `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`. It
    means the video of that name, or else the only one whose name ends with it (the list's paths begin further down), or
    else the only one with its file name (the files lie flat).

    Raises UserError for listed videos that are missing, all at once, and for a path that fits several videos.
    """
    of_file: dict[str, list[str]] = defaultdict(list)
    for name in set(names):
        of_file[name.rpartition("/")[2]].append(name)
    wanted = _lines(list_file)
    found: set[str] = set()
    missing = []
    for number, path in wanted:
        same_file = of_file.get(path.rpartition("/")[2], [])
        ends_so = [name for name in same_file if f"/{name}".endswith(f"/{path}")]
        fitting = [path] if path in same_file else ends_so or same_file
        if len(fitting) > 1:
            raise UserError(
                f"{list_file}, line {number}: {path} fits {len(fitting)} videos of {source} "
                f"({first_few(sorted(fitting))}); give more of its path"
            )
        if not fitting:
            missing.append(path)
        found.update(fitting)
    if missing:
        raise UserError(
            f"{list_file}: {len(missing)} of its {len(wanted)} videos are not in {source} ({first_few(missing)})"
        )
    return found


def _lines(file: Path) -> list[tuple[int, str]]:
    """Number and path of every line that is not empty."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as a list of videos ({error})") from None
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        path, _, last = line.strip().rpartition(" ")
        path = path.strip() if path and last.isdigit() else line.strip()
        if path:
            lines.append((number, path.replace("\\", "/").removeprefix("./")))
    if not lines:
        raise UserError(f"{file}: an empty list; one path of a video a line is expected")
    return lines
