"""Writing and reading checkpoints: every process its share of the tensors, beside the training, in safetensors.

torch.distributed.checkpoint moves the tensors, so that what 8 processes wrote is read by 4, sharded or not. Its files are
safetensors, which hold nothing that runs when they are opened, in place of its own format's pickles.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException  # no Exception, only a BaseException

from mobilevd.errors import UserError
from mobilevd.files import disk_full_is_a_user_error
from mobilevd.temporary import temporary_folder
from training.engine.checkpoint_folder import PROGRESS, clean, read_progress, rotate, step_folder, steps_in
from training.engine.group import TrainingGroup
from training.engine.progress import Progress
from training.engine.states import Tensors, mine

# it notes two lines for every tensor, which takes longer than copying small ones
logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


class CheckpointWriter:
    """Writes checkpoints into a folder, one at a time, while the training goes on."""

    def __init__(self, folder: Path, keep: int, group: TrainingGroup) -> None:
        self.folder, self.keep, self.group = folder, keep, group
        self._under_way: tuple[Future, ExitStack, Path] | None = None

    def start(self, tensors: Tensors, progress: Progress) -> None:
        """Copy the tensors to the processor's memory and begin to write; all processes call it after the same step.

        Raises UserError for a full disk, here or when the writing ends.
        """
        self.finish()
        place = step_folder(self.folder, progress.step)
        stack = ExitStack()
        try:
            temporary, failed = "", ""
            if self.group.is_first and not place.exists():
                try:
                    with disk_full_is_a_user_error(place):
                        self.folder.mkdir(parents=True, exist_ok=True)
                        temporary = str(stack.enter_context(temporary_folder(place)))
                except (UserError, OSError) as error:
                    failed = str(error)
            temporary, failed = self.group.from_first([temporary, failed])
            if failed:
                raise UserError(failed)
            if not temporary:  # this very step is there: a signal came right after it was written
                return
            several = self.group.writing is not None
            writer = HuggingFaceStorageWriter(temporary, save_distributed=True)
            future = dcp.async_save(
                mine(tensors, self.group.rank, self.group.processes),
                storage_writer=writer,
                process_group=self.group.writing,
                no_dist=not several,
            )
            snapshot = Progress(**json.loads(json.dumps(asdict(progress))))
            assert isinstance(future, Future)
            if self.group.is_first:  # its part ends when all parts are written
                future = self._then_commit(future, Path(temporary), place, snapshot)
            self._under_way = future, stack, place
            stack = ExitStack()  # closed by `finish`
        finally:
            stack.close()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written until it is in its place."""
        if self._under_way is None:
            return
        future, stack, place = self._under_way
        self._under_way = None
        with stack:
            failed = ""
            try:
                with disk_full_is_a_user_error(place):
                    future.result()
            except UserError as error:
                failed = str(error)
            except (Exception, CheckpointException) as error:  # of whichever process wrote its part
                failed = f"{place}: cannot be written: {' '.join(str(error).split())[:300]}"
                if "No space left" in str(error) or "Errno 28" in str(error):
                    failed = f"{place}: the disk is full; free some space and give the same command again"
            if self.group.anywhere(bool(failed)):
                raise UserError(failed or f"{place}: another process could not write its part")

    def close(self) -> None:
        """Wait for what is being written, without a word to the other processes: something else went wrong."""
        if self._under_way is None:
            return
        future, stack, _ = self._under_way
        self._under_way = None
        with stack, suppress(Exception, CheckpointException):
            future.result()

    def _then_commit(self, written: Future, temporary: Path, place: Path, progress: Progress) -> Future:
        """A future that is done when what was written is in its place, without waiting for the training to look."""
        committed: Future = Future()

        def commit(done: Future) -> None:
            try:
                done.result()
                self._commit(temporary, place, progress)
            except BaseException as error:
                committed.set_exception(error)
            else:
                committed.set_result(None)

        written.add_done_callback(commit)
        return committed

    def _commit(self, temporary: Path, place: Path, progress: Progress) -> None:
        text = json.dumps(asdict(progress), indent=2, allow_nan=False) + "\n"
        with open(temporary / PROGRESS, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        for path in (temporary, *temporary.iterdir()):
            path.chmod(path.stat().st_mode | (self.folder.stat().st_mode & 0o044))
        os.rename(temporary, place)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        rotate(self.folder, self.keep, progress.best_step)


def find_checkpoint(folder: Path, group: TrainingGroup) -> tuple[Path, Progress] | None:
    """The latest whole checkpoint of a folder and its progress; None if there is none.

    The first process removes what a kill left. Raises UserError for one of an earlier version or that is broken.
    """
    told: list = [None, ""]
    if group.is_first:
        try:
            clean(folder)
            steps = steps_in(folder)
            if steps:
                told[0] = [steps[-1], read_progress(step_folder(folder, steps[-1]))]
        except UserError as error:
            told[1] = str(error)
    found, failed = group.from_first(told)
    if failed:
        raise UserError(failed)
    if found is None:
        return None
    place = step_folder(folder, found[0])
    try:
        return place, Progress(**found[1])
    except TypeError:
        raise UserError(f"{place / PROGRESS}: not the progress of a training; delete {place}") from None


def saved_tensors(place: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Sizes and types of the tensors of a checkpoint, by name. UserError for a broken file."""
    try:
        metadata = HuggingFaceStorageReader(str(place)).read_metadata()
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise UserError(
            f"{place}: a broken checkpoint ({error}); delete this folder to go on from the one before"
        ) from None
    return {
        name: (each.size, each.properties.dtype)  # type: ignore[union-attr]
        for name, each in metadata.state_dict_metadata.items()
    }


def read_tensors(place: Path, tensors: Tensors, group: TrainingGroup) -> None:
    """Fill tensors, whole or sharded, with what a checkpoint has under their names."""
    try:
        dcp.load(
            tensors,  # type: ignore[arg-type]
            storage_reader=HuggingFaceStorageReader(str(place)),
            process_group=group.control,
            no_dist=group.control is None,
        )
    except Exception as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(
            f"{place}: a broken checkpoint ({told}); delete this folder to go on from the one before"
        ) from None
