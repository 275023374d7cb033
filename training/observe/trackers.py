"""Trackers of a training through accelerate: TensorBoard, wandb, trackio and mlflow, one tracked run per stage.

A tracker is a convenience: one that is asked for and not installed is told before training, one that fails later (a network
that is gone, a full disk) is told in one line and left out from then on. Training never waits for a repair of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.json_files import read_json
from mobilevd.plain_text import one_line
from training.observe.report import Report, ShownClips
from training.observe.tracker_kinds import TRACKERS, StageTracker, TrackedStage

RATES = ("clips_per_s", "seconds_per_step", "memory_mb", "tflops", "mfu")
"""Attributes of a report that are tracked beside its figures."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError, before any training, for a tracker that is unknown or whose library is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"tracking.trackers: no tracker {name!r}; known are {', '.join(TRACKERS)}")
        if find_spec(name) is None:
            raise UserError(
                f"tracking.trackers: {name} is asked for and not installed; `pip install {name}`, or take it out"
            )


class Trackers:
    """The trackers of a stage's training, as an observer; made in the main process alone.

    Args:
        names: names of trackers (`check_trackers`).
        stage: what is tracked, and where.
        settings: the run's configuration, nested; every tracker gets it once, and not again when a training goes on.
        step: the step that the training starts after; TensorBoard leaves out what was written of later ones.
        warn: told in one line of a tracker that fails.
    """

    def __init__(
        self,
        names: Sequence[str],
        stage: TrackedStage,
        settings: Mapping[str, Any],
        step: int,
        warn: Callable[[str], None],
    ) -> None:
        check_trackers(names)
        self._warn, self._record_file = warn, stage.folder / f"{stage.stage}.json"
        self._record = _read_record(self._record_file)
        self._trackers: dict[str, StageTracker] = {}
        for name in names:
            self._start(name, stage, settings, step)

    def _start(self, name: str, stage: TrackedStage, settings: Mapping[str, Any], step: int) -> None:
        known = self._record.get(name)
        made = TRACKERS[name](stage, step, None if known is None else known.get("id"))
        self._trackers[name] = made
        self._try(name, made.start)
        if known is None:
            self._try(name, lambda: made.configure(_flat(settings)))
        if name in self._trackers:
            self._record[name] = {"id": made.run_id}
            atomic_write_json(self._record_file, self._record)

    def logged(self, report: Report) -> None:
        """Send a step's figures and rates."""
        rates = {f"rate/{name}": getattr(report, name) for name in RATES}
        values = {**report.figures, **{name: value for name, value in rates.items() if value is not None}}
        self._each(lambda tracker: tracker.log(values, report.step))

    def validated(self, step: int, figures: dict[str, float], clips: ShownClips | None) -> None:
        """Send a validation's figures, and its clips where the tracker can show them."""
        values = {f"validation/{name}": value for name, value in figures.items()}
        self._each(lambda tracker: tracker.log(values, step))
        if clips is not None:
            self._each(lambda tracker: tracker.show(clips, step))

    def close(self) -> None:
        """End the tracked run; it can be gone on with."""
        self._each(lambda tracker: tracker.finish())
        self._trackers.clear()

    def _each(self, work: Callable[[StageTracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            self._try(name, lambda tracker=tracker: work(tracker))

    def _try(self, name: str, work: Callable[[], None]) -> None:
        if name not in self._trackers:
            return
        try:
            work()
        except Exception as error:  # whatever a foreign library raises: training goes on
            del self._trackers[name]
            reason = one_line(str(error).strip() or type(error).__name__)[:300]
            self._warn(f"tracker {name} failed and is left out from here on; training goes on: {reason}")


def _read_record(file: Path) -> dict[str, Any]:
    """Which trackers know the stage already: name -> {"id": ...}."""
    if not file.is_file():
        return {}
    record = read_json(file)
    if not isinstance(record, dict) or not all(isinstance(each, dict) for each in record.values()):
        raise UserError(f"{file}: not what a tracked run notes of its trackers; move it away")
    return record


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key, as trackers want them; lists are numbered."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
            value = {str(number): each for number, each in enumerate(value)}
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float) else str(value)
    return flat
