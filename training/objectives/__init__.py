"""What a stage trains with, one objective a file; every file here is looked into, so a new one is only put here."""

from __future__ import annotations

import importlib
import pkgutil

from mobilevd.config.objectives import ObjectiveSettings
from training.objectives.base import Objective, TrainingContext


def objective_classes() -> dict[type[ObjectiveSettings], type[Objective]]:
    """The objectives by the settings that they take."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {objective.settings_class: objective for objective in Objective.__subclasses__()}


def make_objective(settings: ObjectiveSettings, context: TrainingContext) -> Objective:
    """The objective that the settings are for."""
    return objective_classes()[type(settings)](settings, context)
