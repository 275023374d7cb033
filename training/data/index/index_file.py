"""The file of an index: an SQLite database with what is known of every video, and of the clips chosen from it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mobilevd.errors import UserError
from training.data.index.rows import MeasuredClip, VideoClips, VideoFacts
from training.data.videos import Video

FORMAT = 1  # raised when the same video gives other rows
BUSY_S = 60.0  # that another reader or writer is waited for
TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS videos (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, signature TEXT NOT NULL, head_sha256 TEXT NOT NULL,
    num_frames INTEGER NOT NULL, fps REAL NOT NULL, duration_s REAL NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, aspect REAL NOT NULL, shots TEXT NOT NULL, error TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS choices (id INTEGER PRIMARY KEY, settings TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS looked (
    video INTEGER NOT NULL, choice INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (video, choice)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clips (
    video INTEGER NOT NULL, choice INTEGER NOT NULL, number INTEGER NOT NULL, start_s REAL NOT NULL,
    magnitude REAL NOT NULL, repeated REAL NOT NULL, brightness REAL NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (video, choice, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS source (
    position INTEGER PRIMARY KEY, video INTEGER NOT NULL, path TEXT NOT NULL, offset INTEGER NOT NULL, size INTEGER,
    start_s REAL NOT NULL, end_s REAL
);
"""
"""`videos`: all ever seen, by name. `source`: those of the source as it was last, in order. `choices`: settings of clips;
`looked`: for which of them a video was looked at, and why it gave no clip."""


@contextmanager
def opened_index(file: Path, write: bool = False) -> Iterator[sqlite3.Connection]:
    """The database; with `write`, made if it is not there, and what is not committed at the end is rolled back.

    Raises UserError for a file that is no index or of another version, or cannot be read or written.
    """
    try:
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
        mode = "rwc" if write else "ro"
        address = f"{file.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_S)) as database:
            (there,) = database.execute("PRAGMA user_version").fetchone()
            empty = database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
            if there != FORMAT and not (write and empty):
                raise UserError(f"{file}: no index of videos of this version; delete it, and it is made anew")
            if write:
                database.executescript(TABLES)
                database.execute(f"PRAGMA user_version = {FORMAT}")
                database.commit()
            yield database
    except (sqlite3.Error, OSError) as error:
        full = "full" in str(error) or "No space" in str(error)
        remedy = "free some space and give the same command again" if full else "if it is damaged, delete it"
        raise UserError(f"{file}: the index of videos cannot be used ({error}); {remedy}") from error


def setting(database: sqlite3.Connection, name: str) -> str | None:
    row = database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def set_setting(database: sqlite3.Connection, name: str, value: str) -> None:
    database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))


def choice_id(database: sqlite3.Connection, settings: str) -> int:
    """Number of known settings of clips. LookupError for others."""
    row = database.execute("SELECT id FROM choices WHERE settings = ?", (settings,)).fetchone()
    if row is None:
        raise LookupError(settings)
    return int(row[0])


def add_choice(database: sqlite3.Connection, settings: str) -> int:
    """`choice_id`, which is given to new ones."""
    database.execute("INSERT OR IGNORE INTO choices (settings) VALUES (?)", (settings,))
    return choice_id(database, settings)


def write_video(
    database: sqlite3.Connection, name: str, signature: str, facts: VideoFacts, choice: int, clips: VideoClips
) -> None:
    """Replace what is known of a video, and with it the clips of all choices."""
    known = database.execute("SELECT id FROM videos WHERE name = ?", (name,)).fetchone()
    if known:
        for table in ("looked", "clips"):
            database.execute(f"DELETE FROM {table} WHERE video = ?", known)
    columns = (
        *(facts.head_sha256, facts.num_frames, facts.fps, facts.duration_s, facts.width, facts.height, facts.aspect),
        *(json.dumps(facts.shots), facts.error),
    )
    row = database.execute(
        f"INSERT OR REPLACE INTO videos VALUES ({', '.join('?' * 12)})",
        (known[0] if known else None, name, signature, *columns),
    )
    write_clips(database, int(row.lastrowid or 0), choice, clips)


def write_clips(database: sqlite3.Connection, video: int, choice: int, clips: VideoClips) -> None:
    database.execute("INSERT OR REPLACE INTO looked VALUES (?, ?, ?)", (video, choice, clips.reason))
    database.executemany(
        f"INSERT OR REPLACE INTO clips VALUES ({', '.join('?' * 8)})",
        [
            (video, choice, number, clip.start_s, clip.magnitude, clip.repeated, clip.brightness, clip.error)
            for number, clip in enumerate(clips.clips)
        ],
    )


def read_facts(database: sqlite3.Connection, video: int) -> VideoFacts:
    """What is known of a video."""
    row = database.execute("SELECT * FROM videos WHERE id = ?", (video,)).fetchone()
    *plain, shots, error = row[3:]
    return VideoFacts(*plain, shots=[(first, last) for first, last in json.loads(shots)], error=error)


def write_source(database: sqlite3.Connection, videos: list[Video]) -> None:
    """Record the videos of the source as it is now; all of them are known."""
    database.execute("DELETE FROM source")
    database.executemany(
        "INSERT INTO source SELECT ?, id, ?, ?, ?, ?, ? FROM videos WHERE name = ?",
        (
            (position, str(video.path), video.offset, video.size, video.start_s, video.end_s, video.name)
            for position, video in enumerate(videos)
        ),
    )


def source_videos(database: sqlite3.Connection, choice: int) -> Iterator[tuple[Video, float, str, list[MeasuredClip]]]:
    """The videos of the source in order: each with its aspect, why it gave no clip (or an empty text), and its clips."""
    rows = database.execute(
        "SELECT position, name, path, offset, size, source.start_s, end_s, aspect, videos.error || ifnull(reason, ''), "
        "clips.start_s, magnitude, repeated, brightness, clips.error "
        "FROM source JOIN videos ON videos.id = source.video "
        "LEFT JOIN looked ON looked.video = source.video AND looked.choice = ? "
        "LEFT JOIN clips ON clips.video = source.video AND clips.choice = ? ORDER BY position, number",
        (choice, choice),
    )
    last, current = -1, None
    for position, name, path, offset, size, start_s, end_s, aspect, reason, *clip in rows:
        if position != last or current is None:
            if current is not None:
                yield current
            last, current = position, (Video(name, Path(path), offset, size, start_s, end_s), aspect, reason, [])
        if clip[0] is not None:
            current[3].append(MeasuredClip(*clip))
    if current is not None:
        yield current
