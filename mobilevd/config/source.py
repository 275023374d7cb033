"""A configuration before it is checked: YAML text, the line of every key, and `key=value` overrides."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mobilevd.config.yaml_size import MAX_BYTES, check_size
from mobilevd.errors import UserError


class ConfigSource:
    """The raw values of one file, after overrides, with the place each came from."""

    def __init__(self, path: Path, overrides: list[str]) -> None:
        self.path = path
        text = _read(path)
        try:
            self._node = yaml.compose(text, Loader=yaml.SafeLoader)
            check_size(path, self._node)
            # OmegaConf's loader is a safe one that also reads 1e-4 as a number and refuses a key given twice.
            values: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False) if text.strip() else {}
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise UserError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from None
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{path}: not valid YAML: {_first_line(error)}") from None
        except RecursionError:
            raise UserError(f"{path}: not valid YAML: nested too deeply") from None
        if not isinstance(self._node, yaml.MappingNode | None) or not isinstance(values, dict):
            got = "a list" if isinstance(values, list) else "text"
            raise UserError(f"{path}: expected `key: value` lines, got {got}")
        self.overrides: list[tuple[list[str | int], str]] = []
        """The keys that were overridden, in their parts, and the words that did it."""
        for override in overrides:
            self.overrides.append((_apply(values, override), override))
        _refuse_resolvers(values)
        try:
            resolved: Any = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
        except OmegaConfBaseException as error:
            raise UserError(f"{path}: {_first_line(error)}") from None
        self.values: dict[str, Any] = resolved

    def place(self, path: list[str | int]) -> str:
        """The place where the value at `path` was given: `FILE:LINE`, or the override on the command line."""
        for key, override in reversed(self.overrides):
            if path[: len(key)] == key:
                return f"override {override}"
        node, line = self._node, None
        for part in path:
            child = None
            if isinstance(node, yaml.MappingNode):
                for key_node, value_node in node.value:
                    if key_node.value == str(part):
                        line, child = key_node.start_mark.line + 1, value_node
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                child = node.value[part]
                line = child.start_mark.line + 1
            if child is None:
                break
            node = child
        return f"{self.path}:{line}" if line else str(self.path)


def _refuse_resolvers(value: Any) -> None:
    """Raise UserError for `${name:...}`, which would run a function: it could read the environment into the run's files.

    `${a.b}`, the value of another key, stays possible.
    """
    if isinstance(value, dict):
        for each in value.values():
            _refuse_resolvers(each)
    elif isinstance(value, list):
        for each in value:
            _refuse_resolvers(each)
    elif isinstance(value, str) and (start := value.find("${")) >= 0 and ":" in value[start:]:
        raise UserError(
            f"{value[:60]!r}: functions such as ${{oc.env:...}} are not run in a configuration; write the value"
        )


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES} bytes, which no configuration is")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() and list(path.parent.glob("*.yaml")) else Path("configs")
        known = sorted(str(file) for file in folder.glob("*.yaml"))
        nearest = get_close_matches(str(path), known, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        listed = f" (available: {', '.join(known)})" if known else " (and no configs/*.yaml here)"
        raise UserError(f"{path}: no such configuration{hint}{listed}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); give a YAML file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _apply(values: dict[str, Any], override: str) -> list[str | int]:
    """Set `a.b.0.c=value` in `values`; list items go by index or by `name`. Return the path with indices."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UserError(f"override {override}: expected key=value, as in data.fps=8")
    try:
        parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"override {override}: the value is not valid YAML: {_first_line(error)}") from None
    path: list[str | int] = []
    here: Any = values
    for depth, part in enumerate(parts):
        step: Any = part
        if isinstance(here, list):
            step = _item(here, part, override, ".".join(parts[:depth]))
        elif not isinstance(here, dict):
            above = ".".join(parts[:depth])
            raise UserError(f"override {override}: {above} is {here!r}, which has no key {part}")
        path.append(step)
        if depth == len(parts) - 1:
            here[step] = parsed["value"]
        else:
            if isinstance(here, dict) and here.get(part) is None:
                here[part] = {}
            here = here[step]
    return path


def _item(items: list[Any], part: str, override: str, where: str) -> int:
    names = [str(item.get("name")) for item in items if isinstance(item, dict) and "name" in item]
    if part.isdigit() and int(part) < len(items):
        return int(part)
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == part:
            return index
    nearest = get_close_matches(part, names, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    known = ", ".join([f"0 to {len(items) - 1}" if items else "none, the list is empty", *names])
    raise UserError(f"override {override}: {where} has no entry {part}{hint} (entries: {known})")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
