"""The programs that a run makes of a stage: targets with their precisions, and the bundle's folder of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from export.targets import parse_target
from export.targets.base import Target
from mobilevd.config.schema import ExportSettings
from mobilevd.errors import UserError

BUNDLE = "bundle"


@dataclass(frozen=True)
class ExportChoice:
    """A target with a precision.

    Attributes:
        folder: name of its bundle in a row's folder.
    """

    target: Target
    precision: str
    folder: str

    @property
    def name(self) -> str:
        return f"{self.target.name}:{self.precision}"


def export_choices(settings: ExportSettings) -> list[ExportChoice]:
    """The choices of a configuration: `target` with `precision` first, then `also`.

    UserError for an unknown target or precision, and for one that is named twice.
    """
    first = settings.target if ":" in settings.target else f"{settings.target}:{settings.precision}"
    if first == settings.target and "precision" in settings.model_fields_set:
        raise UserError(
            f"export.target: {first} names a precision, and export.precision {settings.precision}; give one of them"
        )
    choices = [_choice("export.target", first, BUNDLE)]
    for i, text in enumerate(settings.also):
        key = f"export.also.{i}"
        choice = _choice(key, text, None)
        if choice.name in {each.name for each in choices}:
            raise UserError(f"{key}: {choice.name} is exported already; name each program once")
        choices.append(choice)
    return choices


def check_choices(settings: ExportSettings) -> None:
    """Raise UserError as `export_choices`, and for a target to export to that lacks something on this machine."""
    for choice in export_choices(settings):
        if settings.stages != "none":
            choice.target.check_available()


def measured_on_host(choices: Sequence[ExportChoice]) -> ExportChoice | None:
    """The first whose program runs on this host; None if none does."""
    return next((choice for choice in choices if choice.target.not_executed is None), None)


def _choice(key: str, text: str, folder: str | None) -> ExportChoice:
    try:
        target, precision = parse_target(text)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    return ExportChoice(target, precision, folder or f"{BUNDLE}-{target.name}-{precision}")
