"""The kinds of trackers: accelerate's class of each, where it keeps its files, and how it shows clips.

A new tracker that accelerate knows is a class here and a line of `TRACKERS`. Libraries are imported when they are used.
"""

from __future__ import annotations

import io
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from training.observe.report import ShownClips

ANIMATION_WIDTH = 640  # pixels of a clip in TensorBoard, which keeps every picture in its event file
SHEET, CLIPS = "validation/sheet", "validation/clips"


@dataclass(frozen=True)
class TrackedStage:
    """What is tracked.

    Attributes:
        project: the project's name in the tracker.
        run, stage: names; together the name of the tracked run.
        folder: local folder of all tracked files of the run (`RUN/tracking`).
    """

    project: str
    run: str
    stage: str
    folder: Path


class StageTracker(ABC):
    """One tracker of one stage.

    Args:
        stage: what is tracked.
        step: the step that the training starts after.
        run_id: the tracker's own name of the run, if an earlier start has made one.
    """

    name: ClassVar[str]

    def __init__(self, stage: TrackedStage, step: int, run_id: str | None) -> None:
        self.stage, self.step, self.run_id = stage, step, run_id
        self._tracker: Any = None

    @abstractmethod
    def _make(self) -> Any:
        """Accelerate's tracker, not started."""

    @abstractmethod
    def show(self, clips: ShownClips, step: int) -> None:
        """Show clips and pictures."""

    def start(self) -> None:
        """Open the tracked run, or go on with it."""
        self.stage.folder.mkdir(parents=True, exist_ok=True)
        self._tracker = self._make()
        self._tracker.start()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Send the configuration, by dotted key."""
        self._tracker.store_init_configuration(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send figures."""
        self._tracker.log(dict(values), step=step)

    def finish(self) -> None:
        """Close the tracked run."""
        if self._tracker is not None:
            self._tracker.finish()

    @property
    def title(self) -> str:
        """Name of the tracked run."""
        return f"{self.stage.run}/{self.stage.stage}"


class TensorBoard(StageTracker):
    """Event files in `RUN/tracking/tensorboard/STAGE`; `tensorboard --logdir RUN/tracking` shows stages side by side."""

    name = "tensorboard"

    def _make(self) -> Any:
        from accelerate.tracking import TensorBoardTracker

        # what an interrupted training wrote of steps that are taken anew is left out
        return TensorBoardTracker(self.stage.stage, self.stage.folder / self.name, purge_step=self.step + 1)

    def configure(self, settings: Mapping[str, Any]) -> None:
        lines = "\n".join(f"    {key}: {value}" for key, value in settings.items())
        self._tracker.tracker.add_text("configuration", lines, 0)
        self._tracker.tracker.flush()

    def show(self, clips: ShownClips, step: int) -> None:
        for name, file in {SHEET: clips.sheet, **_named(clips)}.items():
            picture = np.asarray(Image.open(file).convert("RGB"))
            self._tracker.log_images({name: picture[None]}, step=step, dataformats="NHWC")
        self._animate(CLIPS, clips, step)
        self._tracker.tracker.flush()

    def _animate(self, name: str, clips: ShownClips, step: int) -> None:
        """Write a clip as an animated GIF, which TensorBoard plays. (Its own `add_video` wants another library.)"""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        data, width, height = _gif(clips.frames, clips.fps)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        writer = self._tracker.tracker._get_file_writer()
        writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)


class Wandb(StageTracker):
    """Weights & Biases; local files in `RUN/tracking`."""

    name = "wandb"

    def _make(self) -> Any:
        from accelerate.tracking import WandBTracker

        self.run_id = self.run_id or secrets.token_hex(8)
        folder, group = str(self.stage.folder), self.stage.run
        project = self.stage.project
        return WandBTracker(project, name=self.title, group=group, id=self.run_id, dir=folder, resume="allow")

    def show(self, clips: ShownClips, step: int) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        files = {SHEET: clips.sheet, **_named(clips)}
        values: dict[str, Any] = {name: wandb.Image(str(file)) for name, file in files.items()}
        self._tracker.log({**values, CLIPS: wandb.Video(str(clips.video), format="mp4")}, step=step)


class Trackio(StageTracker):
    """trackio: a local dashboard, or one in a Hugging Face Space."""

    name = "trackio"

    def _make(self) -> Any:
        from accelerate.tracking import TrackioTracker

        return TrackioTracker(self.stage.project, name=self.title.replace("/", "-"), resume="allow")

    def show(self, clips: ShownClips, step: int) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        files = {SHEET: clips.sheet, **_named(clips)}
        values: dict[str, Any] = {name: trackio.Image(str(file)) for name, file in files.items()}
        self._tracker.log({**values, CLIPS: trackio.Video(str(clips.video), format="mp4")}, step=step)


class Mlflow(StageTracker):
    """MLflow, at the server of MLFLOW_TRACKING_URI or its own default."""

    name = "mlflow"

    def _make(self) -> Any:
        from accelerate.tracking import MLflowTracker

        return MLflowTracker(experiment_name=self.stage.project, run_id=self.run_id, run_name=self.title)

    def start(self) -> None:
        super().start()
        self.run_id = str(self._tracker.active_run.info.run_id)

    def show(self, clips: ShownClips, step: int) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        for file in (clips.video, clips.sheet, *clips.pictures.values()):
            mlflow.log_artifact(str(file), artifact_path="validation")


TRACKERS: dict[str, type[StageTracker]] = {kind.name: kind for kind in (TensorBoard, Wandb, Trackio, Mlflow)}


def _named(clips: ShownClips) -> dict[str, Path]:
    return {f"validation/{name}": file for name, file in clips.pictures.items()}


def _gif(frames: np.ndarray, fps: float) -> tuple[bytes, int, int]:
    """Encode uint8 (T, H, W, 3) as an endless GIF: its bytes, width and height; a wide clip is made smaller."""
    scale = min(1.0, ANIMATION_WIDTH / frames.shape[2])
    width, height = max(1, round(frames.shape[2] * scale)), max(1, round(frames.shape[1] * scale))
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames]
    buffer = io.BytesIO()
    first, *others = pictures
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    return buffer.getvalue(), width, height
