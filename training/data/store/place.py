"""The folder of a store: local, or of object storage and servers through fsspec."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mobilevd.config.data import is_local, local_path
from mobilevd.errors import UserError
from mobilevd.files import atomic_file, atomic_write_text, disk_full_is_a_user_error
from mobilevd.json_files import MAX_BYTES, load_json
from mobilevd.temporary import is_temporary, remove_leftovers_in


class Place(Protocol):
    """A folder of files that are whole or not there. Names are those of files right in it."""

    def shown(self, name: str = "") -> str:
        """The address of a file, or of the folder, as messages name it."""
        ...

    def names(self) -> list[str]:
        """Files and folders in it, but no hidden ones."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        ...

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Bytes of a file. OSError if it cannot be read; fewer bytes where it ends."""
        ...

    def read_json(self, name: str) -> Any:
        """The content of a JSON file; None if it is not there. UserError if it is no JSON."""
        ...

    def write_json(self, name: str, value: Any) -> None: ...

    def writing(self, name: str) -> Any:
        """A context with a local file to write, which is then at the place."""
        ...

    def remove(self, name: str) -> None: ...

    def free_bytes(self) -> int | None:
        """Room for more; None if it cannot be told."""
        ...


def place_at(address: str | Path) -> Place:
    """The place of a path, or of a URL that fsspec knows (s3://, gs://, https://, memory://, ...).

    UserError for a URL that no installed package reads.
    """
    address = str(address)
    return LocalPlace(local_path(address)) if is_local(address) else RemotePlace(address)


class LocalPlace:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def shown(self, name: str = "") -> str:
        return str(self.folder / name)

    def names(self) -> list[str]:
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; give the name of a folder")
        remove_leftovers_in(self.folder)
        found = (path.name for path in self.folder.iterdir())
        return sorted(name for name in found if not name.startswith(".") and not is_temporary(name))

    def size(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return None

    def read(self, name: str, begin: int, end: int) -> bytes:
        # opened for every clip: no descriptor is shared by threads and processes, and a file that vanishes is noticed
        descriptor = os.open(self.folder / name, os.O_RDONLY)
        try:
            return os.pread(descriptor, end - begin, begin)
        finally:
            os.close(descriptor)

    def read_json(self, name: str) -> Any:
        try:
            return load_json(self.folder / name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.shown(name)}: cannot be read as JSON: {error}") from None

    def write_json(self, name: str, value: Any) -> None:
        atomic_write_text(self.folder / name, _json(value))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with atomic_file(self.folder / name) as temporary:
            yield temporary

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        there = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        return shutil.disk_usage(there).free


class RemotePlace:
    """A folder of object storage or a server. A file is written on this machine first, and then copied there."""

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            filesystem, path = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"{url}: {' '.join(str(error).split())}") from None
        self._fs: Any = filesystem
        self.url, self._path = url.rstrip("/"), str(path).rstrip("/")

    def shown(self, name: str = "") -> str:
        return f"{self.url}/{name}" if name else self.url

    def names(self) -> list[str]:
        with self._errors(""):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path, detail=False)
            except FileNotFoundError:
                return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if not name.startswith("."))

    def size(self, name: str) -> int | None:
        with self._errors(name):
            try:
                return int(self._fs.info(f"{self._path}/{name}")["size"])
            except FileNotFoundError:
                return None

    def read(self, name: str, begin: int, end: int) -> bytes:
        return self._fs.cat_file(f"{self._path}/{name}", start=begin, end=end)

    def read_json(self, name: str) -> Any:
        size = self.size(name)
        if size is None:
            return None
        if size > MAX_BYTES:
            raise UserError(f"{self.shown(name)}: {size} bytes, more than the {MAX_BYTES} that are read")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.json"
            with self._errors(name):
                copy.write_bytes(self._fs.cat_file(f"{self._path}/{name}"))
            try:
                return load_json(copy)
            except ValueError as error:
                raise UserError(f"{self.shown(name)}: cannot be read as JSON: {error}") from None

    def write_json(self, name: str, value: Any) -> None:
        with self._errors(name):
            self._fs.makedirs(self._path, exist_ok=True)
            self._fs.pipe_file(f"{self._path}/{name}", _json(value).encode())

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder, disk_full_is_a_user_error(Path(folder)):
            local = Path(folder) / name
            yield local
            with self._errors(name):
                self._fs.makedirs(self._path, exist_ok=True)
                self._fs.put_file(str(local), f"{self._path}/{name}")

    def remove(self, name: str) -> None:
        with self._errors(name):
            self._fs.rm_file(f"{self._path}/{name}")

    def free_bytes(self) -> int | None:
        return None

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turn whatever the storage's client raises into one line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # every client has exceptions of its own
            told = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self.shown(name)}: {told[:500]}") from None


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False) + "\n"
