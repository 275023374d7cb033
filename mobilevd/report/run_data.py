"""What the report reads of a run: its table, and for every row the files that its figures are of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.published import ADVERSARIAL, FINETUNING, PublishedRow, published_after
from mobilevd.errors import UserError
from mobilevd.json_files import load_json
from mobilevd.model.checkpoint import read_config
from mobilevd.report.clip_files import GENERATED, PROGRAM, REAL, shown_files
from mobilevd.report.results_file import read_results
from mobilevd.typed_paths import find_near
from training.observe.log import FILE as LOG
from training.observe.log import TrainingHistory, read_log

MANIFEST = "manifest.json"
SHAPE = "block_out_channels"
"""Key that every UNet's config has."""
STEP_OF_OBJECTIVE = {"denoise": FINETUNING, "adversarial": ADVERSARIAL}


@dataclass(frozen=True)
class ReportedRow:
    """A row of a run's table with what lies in its folder.

    Attributes:
        figures: the row in results.json.
        folder: of the row; None for rows of versions that did not note it.
        published: the published row of a model that went through the same steps; None if there is none.
        model_config: of the row's UNet; None if its file is gone.
        history: of the training that made it; empty without one.
        benches: name of a file -> the measurement in it.
        manifests: path of a bundle's manifest in the row's folder -> its content.
        clips, program_clips: videos made by the model and by the exported program.
    """

    figures: dict[str, Any]
    folder: Path | None
    published: PublishedRow | None
    model_config: dict[str, Any] | None
    history: TrainingHistory
    benches: dict[str, dict[str, Any]]
    manifests: dict[str, dict[str, Any]]
    clips: list[Path]
    program_clips: list[Path]

    @property
    def name(self) -> str:
        return str(self.figures["name"])


@dataclass(frozen=True)
class ReportedRun:
    """A finished run.

    Attributes:
        folder: of the run.
        results: content of results.json.
        rows: of its table, in order.
        real_clips: the real clips that those of the rows stand beside.
    """

    folder: Path
    results: dict[str, Any]
    rows: list[ReportedRow] = field(default_factory=list)
    real_clips: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.results.get("name") or self.folder.name)


def row_folder(run: Path, row: dict[str, Any]) -> Path | None:
    """The folder of a row, which lies directly in the run's; None where the row does not tell, or it is gone."""
    place = run / str(row.get("folder", ""))
    return place if "folder" in row and place.parent == run and place.is_dir() else None


def read_run(folder: Path) -> ReportedRun:
    """Read a finished run. UserError as `read_results`; other files that are gone or broken leave their part empty."""
    results = read_results(folder)
    stages = _stages(folder)
    done: set[str] = set()
    rows: list[ReportedRow] = []
    base: Path | None = None
    for row in results["rows"]:
        stage, place = stages.get(row.get("stage")), row_folder(folder, row)
        if stage is not None:
            done |= _steps(stage)
        base = base or place
        is_base_again = stage is None and bool(rows)
        rows.append(
            ReportedRow(
                figures=row,
                folder=place,
                published=None if is_base_again else published_after(frozenset(done)),
                model_config=_config_of(folder, place),
                history=read_log(place) if place else TrainingHistory([], []),
                benches=_objects(place, ("bench*.json",), "summary"),
                manifests=_objects(place, (f"*/{MANIFEST}",), "programs"),
                clips=shown_files(place, GENERATED) if place else [],
                program_clips=shown_files(place, PROGRAM) if place else [],
            )
        )
    return ReportedRun(folder, results, rows, shown_files(base, REAL) if base else [])


def raw_files(row: ReportedRow) -> list[Path]:
    """The files that a row's figures are read from."""
    if row.folder is None:
        return []
    names = ["metrics.json", *row.benches, *row.manifests, LOG]
    return [row.folder / name for name in names if (row.folder / name).is_file()]


def _stages(folder: Path) -> dict[str, dict[str, Any]]:
    """The stages in the run's configuration by name; empty if it cannot be read."""
    content = _object(folder / "config.json")
    stages = content.get("stages") if content else None
    found = [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    return {str(stage.get("name")): stage for stage in found}


def _steps(stage: dict[str, Any]) -> set[str]:
    """Steps of the method that a stage takes: its transforms, and finetuning or adversarial training."""
    kinds = {str(each.get("kind")) for each in stage.get("transforms") or [] if isinstance(each, dict)}
    objective = (stage.get("objective") or {}).get("kind")
    return kinds | ({STEP_OF_OBJECTIVE[objective]} if objective in STEP_OF_OBJECTIVE else set())


def _config_of(run: Path, place: Path | None) -> dict[str, Any] | None:
    """The UNet's config: of the row's own model, or of the base's that the run started from."""
    config = _object(place / "model" / "config.json") if place else None
    if config is None and place is not None:
        file = run / "config.json"
        started = (_object(file) or {}).get("base") or {}
        try:
            config = read_config(find_near(file, Path(str(started.get("model")))))
        except UserError:
            return None
    return config if config and SHAPE in config else None


def _objects(place: Path | None, patterns: tuple[str, ...], key: str) -> dict[str, dict[str, Any]]:
    """JSON objects with a key, in a row's folder, by their path in it."""
    files = [] if place is None else [file for pattern in patterns for file in sorted(place.glob(pattern))]
    found = {file.relative_to(place).as_posix(): _object(file) for file in files if place}
    return {name: content for name, content in found.items() if content is not None and key in content}


def _object(file: Path) -> dict[str, Any] | None:
    try:
        content = load_json(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
