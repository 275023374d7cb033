"""Features of single clips, kept as soon as they are computed: a start that was interrupted loses a batch at most."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobilevd.errors import UserError

APPLICATION_ID = 0x6D764643  # "mvFC", in the head of the file: no other program's database is written to


class FeatureCache:
    """A SQLite file: key -> arrays and figures of a clip. The caller's key says everything that they depend on."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(file)
            (tables,) = self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (owner,) = self.connection.execute("PRAGMA application_id").fetchone()
            if owner != APPLICATION_ID and tables:
                raise UserError(f"{file}: another program's database; give another name for the cache")
            self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.connection.execute("CREATE TABLE IF NOT EXISTS clips (key TEXT PRIMARY KEY, content BLOB)")
            self.connection.commit()
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"{file}: cannot be used as a cache of features ({error}); give another name") from None

    def get(self, key: str) -> tuple[dict[str, np.ndarray], dict[str, float]] | None:
        """Features and figures that were put; None if there are none, or if they are damaged."""
        row = self.connection.execute("SELECT content FROM clips WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            with np.load(io.BytesIO(row[0]), allow_pickle=False) as arrays:
                content = {name: arrays[name] for name in arrays.files}
            return content, json.loads(str(content.pop("values")))
        except Exception:  # whatever is wrong with it, it is made anew
            return None

    def put(self, key: str, features: Mapping[str, np.ndarray], values: Mapping[str, float]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{"values": np.asarray(json.dumps(dict(values))), **features})
        try:
            with self.connection:
                self.connection.execute("INSERT OR REPLACE INTO clips VALUES (?, ?)", (key, buffer.getvalue()))
        except sqlite3.Error as error:
            raise UserError(f"{self.file}: features cannot be kept there ({error})") from None

    def close(self) -> None:
        self.connection.close()
