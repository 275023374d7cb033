"""Shards at a URL, fetched once through fsspec: object storage (s3, gs, ...) and web servers alike."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mobilevd.errors import UserError
from mobilevd.files import atomic_file
from training.data.sources.shard_names import names_below
from training.data.sources.shards import SHARD_SUFFIX

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PIECE_BYTES = 8 << 20


def is_url(place: str) -> bool:
    """True for an address; false for a path."""
    return SCHEME.match(place) is not None


def fetch_shards(
    urls: Sequence[str], cache: Path, progress: Callable[[int, int], None] | None = None
) -> list[tuple[str, Path]]:
    """Names and local files of shards at URLs; what is not in the folder `cache` yet is fetched, each whole or not at all.

    Raises UserError for a URL of something else, one that cannot be read, a protocol without its package, a full disk.
    """
    shards = []
    names = names_below([urlsplit(url).path for url in urls])
    for number, (url, name) in enumerate(zip(urls, names, strict=True)):
        if not urlsplit(url).path.lower().endswith(SHARD_SUFFIX):
            raise UserError(f"{shown_url(url)}: videos at a URL are read from {SHARD_SUFFIX} shards; give their names")
        folder, _, file_name = shown_url(url).rpartition("/")
        file = cache / hashlib.sha256(folder.encode()).hexdigest()[:12] / file_name
        if not file.is_file():
            _fetch(url, file)
        shards.append((name, file))
        if progress is not None:
            progress(number + 1, len(urls))
    return shards


def shown_url(url: str) -> str:
    """The URL without what might be a secret: user and password, and the query, where signatures stand."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _fetch(url: str, file: Path) -> None:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # the package of the protocol is missing, or nobody knows it
        raise UserError(
            f"{shown_url(url)}: {error} (fsspec's packages: pip install 's3fs', 'gcsfs', 'fsspec[http]')"
        ) from None
    with atomic_file(file) as temporary:
        try:
            expected = filesystem.info(path).get("size")
            with filesystem.open(path, "rb") as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target, PIECE_BYTES)
        except FileNotFoundError:
            raise UserError(f"{shown_url(url)}: no such shard, or its server cannot be reached") from None
        except Exception as error:  # every protocol has exceptions of its own
            if isinstance(error, OSError) and error.filename in (str(temporary), None) and error.errno is not None:
                raise  # this disk's: `atomic_file` has the clearer message
            raise UserError(f"{shown_url(url)}: cannot be fetched ({type(error).__name__}: {error})") from None
        got = temporary.stat().st_size
        if expected is not None and got != expected:
            raise UserError(f"{shown_url(url)}: {got} of {expected} bytes came; give the same command again")
