"""The text that `--dry-run` shows."""

from __future__ import annotations

import yaml

from mobilevd.config.schema import RunConfig, StageSettings
from mobilevd.config.transforms import TransformSettings
from mobilevd.plain_text import one_line


def describe_plan(config: RunConfig) -> str:
    """The resolved configuration as YAML (itself a valid configuration), then the stages in order."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=110)
    lines = [_stage(index, stage) for index, stage in enumerate(config.stages)]
    return f"{text}\n# plan: {len(lines)} stages into {config.output}\n" + "\n".join(lines)


def _stage(index: int, stage: StageSettings) -> str:
    transforms = ", ".join(_transform(transform) for transform in stage.transforms) or "no transform"
    objective = stage.objective
    training = f"{objective.kind} for {stage.training.steps} steps" if objective.trains else "no training"
    return f"# {index + 1:2d}. " + one_line(f"{stage.name} ({stage.label}): {transforms}; {training}; {stage.nfe}")


def _transform(transform: TransformSettings) -> str:
    settings = transform.model_dump(exclude={"kind"}).items()
    return " ".join([transform.kind, *(f"{key}={value}" for key, value in settings)])
