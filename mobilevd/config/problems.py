"""The messages for a wrong configuration: one readable line for each mistake."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mobilevd.config.source import ConfigSource

GONE = {
    "gradient_accumulation": "is not a key any more: batch_size is the total of an optimizer step, over all processes; "
    "micro_batch_size is the clips per forward pass, and the accumulation follows",
}
"""What to say of keys of earlier versions."""


def describe(errors: Iterable[ErrorDetails], model: type[BaseModel], source: ConfigSource) -> list[str]:
    """Return a line per pydantic error: place, dotted key, the value given, the values allowed."""
    lines = []
    for error in errors:
        path, parent = _walk(error["loc"], model)
        key = ".".join(str(part) for part in path)
        line = f"{source.place(path)}: {f'{key}: ' if key else ''}{_reason(error, path, parent)}"
        if line not in lines:
            lines.append(line)
    return lines


def _walk(location: tuple[str | int, ...], model: type[BaseModel]) -> tuple[list[str | int], type[BaseModel] | None]:
    """The path as the user wrote it, and the model that the last key belongs to.

    pydantic's own locations also hold the tag of a union's member (`transforms, 0, funnels, attention`).
    """
    path: list[str | int] = []
    here: Any = model
    parent: type[BaseModel] | None = None
    for part in location:
        members = _members(here)
        tagged = [member for member in members if _tag(member) == part]
        if isinstance(part, str) and tagged and len(members) > 1:
            here = tagged[0]
            continue
        if isinstance(part, int):
            sequences = [member for member in members if get_origin(member) in (list, tuple)]
            here = get_args(sequences[0])[0] if sequences else None
        elif isinstance(members[0], type) and issubclass(members[0], BaseModel):
            parent = members[0]
            field = parent.model_fields.get(part)
            here = field.annotation if field else None
        else:
            continue  # the name of a union's member, such as `int`
        path.append(part)
    return path, parent


def _members(annotation: Any) -> list[Any]:
    """The types of a union, `None` left out; a list of one for any other type."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (None, list, tuple, dict) or not get_args(annotation):
        return [annotation]
    members = [member for part in get_args(annotation) if part is not type(None) for member in _members(part)]
    return members or [annotation]


def _tag(member: Any) -> str | None:
    """The `kind` that chooses this model in a union."""
    if isinstance(member, type) and issubclass(member, BaseModel) and "kind" in member.model_fields:
        return get_args(member.model_fields["kind"].annotation)[0]
    return None


def _reason(error: ErrorDetails, path: list[str | int], parent: type[BaseModel] | None) -> str:
    kind, got = error["type"], error["input"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden" and parent is not None:
        if told := GONE.get(str(path[-1])):
            return told
        return f"unknown key{nearest(str(path[-1]), sorted(parent.model_fields))}"
    if kind == "missing":
        field = parent.model_fields.get(str(path[-1])) if parent else None
        return f"missing{f' ({field.description})' if field and field.description else ''}"
    if kind == "union_tag_not_found":
        return "has no `kind`, which says what it is"
    if kind == "union_tag_invalid":
        known = [tag.strip().strip("'") for tag in str(context.get("expected_tags")).split(",")]
        return f"unknown kind{nearest(str(context.get('tag')), known)}"
    if kind == "literal_error":
        return f"got {got!r}, allowed: {context.get('expected')}"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a mapping of keys to values, got {_shown(got)}"
    message = (error["msg"][:1].lower() + error["msg"][1:]).replace("input should be", "must be")
    return f"{message}, got {_shown(got)}"


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean ...? (known: ...)` for a word that is not among `known`."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" {word!r}{f'; did you mean {close[0]}?' if close else ''} (known: {', '.join(known)})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
