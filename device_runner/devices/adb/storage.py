"""The device's storage: files kept by their SHA-256, so that none is pushed twice, and freeing of space for more."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_runner.devices.adb.client import Adb, ConnectionLost, storage_full
from device_runner.devices.adb.push import push
from device_runner.devices.adb.remote import calls, quote, together
from device_runner.devices.adb.survey import STAT, Survey, free_bytes
from device_runner.devices.job import Progress
from device_runner.errors import RunnerError

MARGIN_BYTES = 16 << 20
"""Space that stays free, for logs, folders, and the files of other programs."""
NO_ROOM_BYTES = 64 << 10
"""Free space below which a failed write is put down to a full storage."""
HASH_BYTES_S = 20_000_000
"""Rate of SHA-256 on a slow phone, for time limits."""
ATTEMPTS = 4
"""Pushes in a row without a single file arriving, before giving up."""


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file on this machine."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Transfer:
    """The cost of having all files on the device."""

    pushed_bytes: int
    push_s: float
    check_s: float
    kept_bytes: int


@contextmanager
def writing(adb: Adb, place: str) -> Iterator[None]:
    """Run commands that write; if one fails and `place` has no space left, raise the error for a full storage instead.

    Not every shell says why it could not write (dash: "I/O error").
    """
    try:
        yield
    except ConnectionLost:
        raise
    except RunnerError:
        try:
            free = free_bytes(adb.shell_answer(f"df -k {quote(place)}").stdout.splitlines())
        except ConnectionLost:
            free = None
        if free is not None and free < NO_ROOM_BYTES:
            raise RunnerError(storage_full(adb.name)) from None
        raise


# Hashes files in `files/FOLDER`, or in the store itself (`.`), and records those with the right content.
_CHECK = """
cd {base}/files || exit 1
for name in {names}; do
if [ -f {folder}/"$name" ]; then
sum="$(sha256sum < {folder}/"$name")"
if [ "${sum%% *}" = "$name" ]; then
chmod 755 {folder}/"$name"
[ {folder} = . ] || mv -f {folder}/"$name" "$name" || exit 1
{stat} "$name" > "$name.ok.part" && mv -f "$name.ok.part" "$name.ok" || exit 1
else
rm -f {folder}/"$name" "$name.ok"
fi
fi
if [ -f "$name.ok" ] && [ -f "$name" ]; then echo "good $name"; else echo "bad $name"; fi
done
[ {folder} = . ] || rmdir {folder} 2> /dev/null
:
"""


class Storage:
    """The store of one device; `held` runs an action that may be repeated, again after the link was lost."""

    def __init__(self, adb: Adb, base: str, held: Callable[[Callable[[], object]], object]) -> None:
        self.adb, self.base, self._held = adb, base, held

    def bring(
        self,
        found: Survey,
        files: Mapping[str, Path],
        names: Mapping[str, str],
        more_bytes: int,
        progress: Progress,
    ) -> Transfer:
        """Bring the files (SHA-256 -> file here; `names` for messages) into the store, each with the right content.

        Raises `RunnerError` if there is no space for them and `more_bytes`, or if they do not arrive whole.
        """
        sizes = {sha: path.stat().st_size for sha, path in files.items()}
        start = time.monotonic()
        doubtful = [sha for sha in files if sha in found.store and not found.store[sha].intact]
        good = {sha for sha in files if sha in found.store and found.store[sha].intact}
        if doubtful:
            progress("checking files on the device", None)
            good |= self._check(doubtful, ".", sizes)
        check_s = time.monotonic() - start
        missing = {sha: path for sha, path in files.items() if sha not in good}
        kept = sum(sizes[sha] for sha in good)
        self._make_room(found, files, sum(sizes[sha] for sha in missing) + more_bytes)
        push_s, failures = 0.0, 0
        while missing:
            folder = f"in-{secrets.token_hex(4)}"
            self._write(f"mkdir -p {quote(f'{self.base}/files/{folder}')}", 20)
            start = time.monotonic()
            trouble: RunnerError | None = None
            try:
                push(
                    self.adb,
                    missing,
                    f"{self.base}/files/{folder}",
                    lambda sha, share: progress(f"pushing {names[sha]}", share),
                )
            except ConnectionLost as error:
                trouble = error
            push_s += time.monotonic() - start
            progress("checking files on the device", None)
            start = time.monotonic()
            arrived = self._check(list(missing), folder, sizes)
            check_s += time.monotonic() - start
            failures = 0 if arrived else failures + 1
            missing = {sha: path for sha, path in missing.items() if sha not in arrived}
            if missing and trouble is None:
                self._check_unchanged(missing)
            if missing and failures >= ATTEMPTS:
                name = names[next(iter(missing))]
                raise trouble or RunnerError(f"{self.adb.name}: {name} does not arrive on the device as it is here")
        return Transfer(sum(sizes.values()) - kept, push_s, check_s, kept)

    @staticmethod
    def _check_unchanged(files: Mapping[str, Path]) -> None:
        for sha, path in files.items():
            if file_sha256(path) != sha:
                raise RunnerError(f"{path}: its SHA-256 is no more {sha}; it was changed after the bundle was read")

    def _check(self, names: list[str], folder: str, sizes: Mapping[str, int]) -> set[str]:
        """Names whose files are now in the store with the right SHA-256."""
        good: set[str] = set()
        # In groups: a command line has a limited length, and an answer should not take long.
        for start in range(0, len(names), 100):
            group = names[start : start + 100]
            script = _CHECK.replace("{base}", quote(self.base)).replace("{names}", quote(*group))
            script = script.replace("{folder}", folder).replace("{stat}", STAT.format(""))
            limit = 20 + sum(sizes[name] for name in group) / HASH_BYTES_S
            good |= {line[5:] for line in self._write(script, limit).splitlines() if line.startswith("good ")}
        return good

    def _write(self, command: str, limit_s: float) -> str:
        told: list[str] = []
        with writing(self.adb, self.base):
            self._held(lambda: told.append(self.adb.shell(command, limit_s)))
        return told[-1]

    def _make_room(self, found: Survey, needed_files: Mapping[str, Path], needed: int) -> None:
        """Free space for `needed` bytes, if need be by removing files that this job does not use, oldest use first."""
        free = found.free_bytes
        if free is None:
            return
        needed += MARGIN_BYTES
        spare = sorted((stored.used, sha) for sha, stored in found.store.items() if sha not in needed_files)
        doomed = []
        while spare and free < needed:
            doomed.append(spare.pop(0)[1])
            free += found.store[doomed[-1]].size_bytes
        if free < needed:
            raise RunnerError(
                f"{self.adb.name}: {needed / 1e6:.0f} MB are needed on the device and {free / 1e6:.0f} MB "
                f"{'would be ' if doomed else 'are '}free at {self.base}; delete something there"
            )
        if doomed:
            self.remove(f"files/{sha}{end}" for sha in doomed for end in ("", ".ok"))

    def remove(self, places: Iterable[str]) -> None:
        """Remove files or folders, given relative to the base."""
        for command in calls(together("rm -rf", (f"{self.base}/{place}" for place in places))):
            self._held(lambda command=command: self.adb.shell(command, timeout=120))

    def free(self) -> int | None:
        """Free bytes now; None if the device does not report them."""
        return free_bytes(self.adb.shell(f"df -k {quote(self.base)}").splitlines())
