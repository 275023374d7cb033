"""A run on disk: one folder per row of the table, and fingerprints that tell whether a folder is still valid."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevd.codecs.base import Codec
from mobilevd.config.data import UNSEEN_BY_CLIPS
from mobilevd.config.schema import RunConfig, StageSettings
from mobilevd.config.training import seen_by_weights
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json, sha256_file
from mobilevd.json_files import load_json, read_json
from mobilevd.model.checkpoint import read_config
from mobilevd.model.model_place import model_folder
from mobilevd.model.unet import size_multiple
from mobilevd.model.weight_files import weight_files
from mobilevd.temporary import is_temporary
from mobilevd.transforms.rehearsal import stage_sizes

NOTE = "entry.json"
"""File in a row's folder that tells what it is made from."""


@dataclass(frozen=True)
class Entry:
    """One row of the table: a model at a size, sampled in one way.

    Attributes:
        name, label: folder name and row name.
        folder: the folder of its results.
        model: the model folder (for the base, the user's own).
        stage: the stage that made it; None for the base.
        previous: the entry it starts from; None for the base.
        height, width: size of its clips, in pixels.
        one_step: sampled by one evaluation, else by the multi-step sampler.
        exported: true if it is a model of its own that a device could run.
        size_multiple: number of pixels that heights and widths must be divisible by in its training.
        fingerprint: hash of everything that decides its weights.
    """

    name: str
    label: str
    folder: Path
    model: Path
    stage: StageSettings | None
    previous: Entry | None
    height: int
    width: int
    one_step: bool
    exported: bool
    size_multiple: int
    fingerprint: str

    @property
    def is_trained(self) -> bool:
        return (self.model / "config.json").is_file()

    def earlier(self, name: str) -> Entry:
        """The entry of that name before this one."""
        entry = self.previous
        while entry is not None and entry.name != name:
            entry = entry.previous
        if entry is None:
            raise UserError(f"stages.{self.name}: there is no stage {name!r} before it")
        return entry

    def last_multi_step(self) -> Entry:
        """The nearest earlier multi-step entry: later one-step models train against a discriminator on its encoder."""
        entry = self.previous
        while entry is not None and entry.one_step:
            entry = entry.previous
        if entry is None:
            raise UserError(f"stages.{self.name}: adversarial training needs a multi-step model before it")
        return entry


def _fingerprint(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def plan_entries(config: RunConfig, codec: Codec) -> list[Entry]:
    """Return all rows of a run, in order, after checking that every stage's size fits codec and UNet.

    Raises UserError for a base folder that is no model, or a size or number of frames that does not divide.
    """
    base_config = read_config(config.base.model)
    weights = [sha256_file(file) for file in weight_files(model_folder(config.base.model))]
    sizes = stage_sizes(config, base_config, codec.spatial_factor)
    height, width = sizes[0]
    multiple = codec.spatial_factor * size_multiple(base_config)
    # the amount and kind of the training data, but not the evaluation or measurement
    data = config.data.model_dump(mode="json", exclude=UNSEEN_BY_CLIPS)
    fingerprint = _fingerprint(base_config, weights, data, config.diffusion.model_dump(), config.seed)
    base = Entry(
        "base",
        "base",
        config.output / "00-base",
        config.base.model,
        None,
        None,
        height,
        width,
        False,
        True,
        multiple,
        fingerprint,
    )
    one_step = Entry(
        "base-one-step",
        "base in one step, not finetuned",
        config.output / "00-base-one-step",
        config.base.model,
        None,
        base,
        height,
        width,
        True,
        False,
        multiple,
        fingerprint,
    )
    entries, previous = [base, one_step], base
    for number, stage in enumerate(config.stages, start=1):
        height, width = sizes[number]
        multiple *= math.prod(transform.size_factor for transform in stage.transforms)
        training = seen_by_weights(stage.training)
        parts = stage.model_dump(mode="json", exclude={"training", "label", "nfe"})
        decisive = [previous.fingerprint, parts, training if stage.objective.trains else None]
        if stage.objective.trains and not config.data.aspect_ratios and height * sizes[0][1] != width * sizes[0][0]:
            decisive.append("the base's crop, stretched")  # earlier versions took another crop for such a size
        fingerprint = _fingerprint(*decisive)
        folder = config.output / f"{number:02d}-{stage.name}"
        previous = Entry(
            stage.name,
            stage.label,
            folder,
            folder / "model",
            stage,
            previous,
            height,
            width,
            stage.nfe == "one-step",
            True,
            multiple,
            fingerprint,
        )
        entries.append(previous)
    return entries


def claim_folder(entry: Entry) -> None:
    """Record in the entry's folder what it is made from; UserError as `check_claim`."""
    if not check_claim(entry):
        note = {"name": entry.name, "label": entry.label, "fingerprint": entry.fingerprint}
        atomic_write_json(entry.folder / NOTE, note)


def check_claims(entries: Sequence[Entry]) -> None:
    """Raise UserError as `check_claim` for the first row's folder that is of something else."""
    for entry in entries:
        check_claim(entry)


def check_claim(entry: Entry) -> bool:
    """True if the entry's folder is there and made from what the entry says; false if it is free.

    Raises UserError if it was made from something else, or holds something else.
    """
    folder, note = entry.folder, entry.folder / NOTE
    if note.is_file():
        try:
            there = load_json(note)["fingerprint"]
        except (ValueError, KeyError, TypeError):
            there = ""
        if there != entry.fingerprint:
            raise UserError(
                f"{folder}: made with other settings than those given now; give output=ANOTHER_FOLDER, or delete "
                "this folder and the stages after it to make them anew"
            )
        return True
    if folder.is_file() or (folder.exists() and not all(is_temporary(path.name) for path in folder.iterdir())):
        raise UserError(f"{folder}: is in the way, and not a stage of a run; give output=ANOTHER_FOLDER")
    return False


def run_settings(model: Path) -> dict[str, Any]:
    """The settings of the run that made `model`, and whether its stage is sampled in one step; empty outside a run."""
    entry, config = model.parent / NOTE, model.parent.parent / "config.json"
    if not (entry.is_file() and config.is_file()):
        return {}
    settings, noted = read_json(config), read_json(entry)
    name = noted.get("name") if isinstance(noted, dict) else None
    if not isinstance(settings, dict) or not {"stages", "data", "diffusion", "base"} <= settings.keys():
        raise UserError(f"{config}: not the configuration of a run, which {entry} says it is")
    stage = next((stage for stage in settings["stages"] if stage["name"] == name), None)
    return {**settings, "one_step": stage is not None and stage["nfe"] == "one-step"}
