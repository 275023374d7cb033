"""The objectives that a stage trains with, one file each; every file here is imported, so a new one needs no entry."""

from __future__ import annotations

import importlib
import pkgutil

from mobilevd.config.objectives import ObjectiveSettings
from training.objectives.base import Objective, TrainingContext


def objective_classes() -> dict[type[ObjectiveSettings], type[Objective]]:
    """The objective classes by the settings that they take."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {objective.settings_class: objective for objective in Objective.__subclasses__()}


def make_objective(settings: ObjectiveSettings, context: TrainingContext) -> Objective:
    """Return the objective that the settings are for."""
    return objective_classes()[type(settings)](settings, context)
