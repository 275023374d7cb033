"""Frozen dataclasses as JSON objects: each field is a key, written in field order; errors while reading name the key.

A field without a default is required. A field that has its default is left out; one marked `NULL` is written as null,
unless its object has nothing else to say. Unknown keys are ignored: a later version may have written them.
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

NULL = "null"
"""Metadata of a field that may be null in JSON."""
KEY = "key"
"""Metadata of a field whose JSON key is no Python name."""
KINDS: dict[Any, tuple[Any, str]] = {
    str: (str, "a text"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "true or false"),
    tuple: (list, "a list"),
    dict: (dict, "an object"),
}
"""Field type -> the Python type of the decoded JSON, and its name in error messages."""


class FormError(ValueError):
    """A value that does not fit its place; `place` is the path of keys to it, "" for the whole document."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(f"{place or 'the whole'} {text}")
        self.place, self.text = place, text


class JsonObject:
    """Base of the dataclasses that are JSON objects.

    Fields are texts (not empty), numbers (finite), true or false, other such objects, tuples of one kind, dictionaries
    with text keys, or one of these `| None`. A class checks further conditions in `__post_init__`, raising `FormError`.
    """

    def to_json(self) -> dict[str, Any]:
        """The object for `json.dumps`, equal to what reading it back gives."""
        given = [(field, getattr(self, field.name)) for field in _fields_of(type(self))]
        if all(value == field.default for field, value in given):
            return {}
        return {field.key: _written(value) for field, value in given if field.null or value != field.default}


Read = TypeVar("Read", bound=JsonObject)


def read_object(kind: type[Read], value: Any, place: str = "") -> Read:
    """Read an object of `kind` from decoded JSON.

    Raises `FormError`: a key is missing, or a value is not of its field's type.
    """
    _check(dict, value, place)
    given = {}
    for field in _fields_of(kind):
        inside = _join(place, field.key)
        if field.key in value:
            nothing = field.null and value[field.key] is None
            given[field.name] = None if nothing else _read(field.hint, value[field.key], inside)
        elif field.default is MISSING:
            raise FormError(inside, f"must be {_kind_of(field.hint)[1]}, but is missing")
    try:
        return kind(**given)
    except FormError as error:
        raise FormError(_join(place, error.place), error.text) from None


class _Field(NamedTuple):
    name: str
    key: str
    hint: Any
    """Type without `| None`: in JSON a value is present or absent."""
    null: bool
    default: Any


@cache
def _fields_of(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(
        _Field(
            field.name,
            field.metadata.get(KEY, field.name),
            _without_none(hints[field.name]),
            NULL in field.metadata,
            field.default,
        )
        for field in fields(kind)
    )


def _without_none(hint: Any) -> Any:
    arguments = get_args(hint)
    return next(each for each in arguments if each is not NoneType) if NoneType in arguments else hint


def _kind_of(hint: Any) -> tuple[Any, str]:
    plain = get_origin(hint) or hint
    return KINDS[dict if issubclass(plain, JsonObject) else plain]


def _check(hint: Any, value: Any, place: str) -> None:
    kind, called = _kind_of(hint)
    if not isinstance(value, kind) or (isinstance(value, bool) and hint is not bool):
        raise FormError(place, f"must be {called}, not {value!r}")


def _read(hint: Any, value: Any, place: str) -> Any:
    _check(hint, value, place)
    origin = get_origin(hint)
    if origin is tuple:
        return tuple(_read(get_args(hint)[0], each, f"{place}[{index}]") for index, each in enumerate(value))
    if origin is dict:
        return {key: _read(get_args(hint)[1], each, _join(place, key)) for key, each in value.items()}
    if issubclass(hint, JsonObject):
        return read_object(hint, value, place)
    if hint is str and not value:
        raise FormError(place, "must not be empty")
    if hint is float and not abs(value) <= sys.float_info.max:
        raise FormError(place, f"must be finite, not {value}")
    return value


def _written(value: Any) -> Any:
    if isinstance(value, JsonObject):
        return value.to_json()
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, dict):
        return {key: _written(each) for key, each in value.items()}
    return value


def _join(place: str, key: str) -> str:
    return ".".join(part for part in (place, key) if part)
