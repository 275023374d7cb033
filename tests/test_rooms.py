"""The rules of the house: who may import whom, who owns what, and that nothing stands twice."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.source import ROOMS, ROOT, imported, inside, modules, project_files, tree

ROOF = (
    "mobilevd.cli",
    "mobilevd.__main__",
    "mobilevd.commands",
    "mobilevd.pipeline",
    "mobilevd.report",
    "mobilevd.quick_checks",
)
MAY_IMPORT = {
    "mobilevd": ("mobilevd",),
    "training": ("training", "mobilevd", "eval"),  # it trains the encoder that eval judges with
    "export": ("export", "mobilevd", "device_runner.bundle"),
    "device_runner": ("device_runner",),
    "eval": ("eval", "mobilevd"),
}
"""Of the ground; the roof knows all rooms."""
# in device_runner the bundle and the protocol know neither devices nor how anything is measured
GROUND_OF_THE_RUNNER = tuple(f"device_runner.{name}" for name in ("bundle", "protocol", "errors", "json_files"))


def commands() -> set[str]:
    """Modules that are a command of `mobilevd`, by the names of the commands."""
    registered = [
        node.name
        for node in tree(ROOT / "mobilevd" / "cli.py").body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    return {f"mobilevd.commands.{name}" for name in registered} & modules().keys()


def test_rooms_import_only_downwards() -> None:
    for name, path in modules().items():
        if inside(name, *ROOF):
            continue
        ours = {other for other in imported(path) if other.partition(".")[0] in ROOMS}
        wrong = {other for other in ours if not inside(other, *MAY_IMPORT[name.partition(".")[0]])}
        assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def test_nothing_on_the_ground_knows_the_roof() -> None:
    for name, path in modules().items():
        if not inside(name, *ROOF):
            wrong = {other for other in imported(path) if inside(other, *ROOF)}
            assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def test_commands_know_no_other_command_and_the_pipeline_knows_none() -> None:
    assert len(commands()) >= 11, "the commands are not found any more"
    for name, path in modules().items():
        if inside(name, "mobilevd.commands"):
            wrong = (imported(path) & commands()) - {name}
            assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"
        if inside(name, "mobilevd.pipeline"):
            wrong = {other for other in imported(path) if inside(other, "mobilevd.commands", "mobilevd.cli")}
            assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def test_the_runners_ground_knows_no_devices() -> None:
    for name, path in modules().items():
        if inside(name, *GROUND_OF_THE_RUNNER):
            ours = {other for other in imported(path) if inside(other, "device_runner")}
            wrong = {other for other in ours if not inside(other, *GROUND_OF_THE_RUNNER)}
            assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """Every module that reaches itself, with the way."""
    for start in graph:
        waiting, came_from = [start], {}
        while waiting:
            here = waiting.pop()
            for there in graph[here]:
                if there == start:
                    way = [here]
                    while way[-1] != start:
                        way.append(came_from[way[-1]])
                    yield way[::-1]
                    waiting = []
                    break
                if there not in came_from:
                    came_from[there] = here
                    waiting.append(there)


def test_no_import_circle() -> None:
    """Imports inside functions and for type checking count: what needs each other belongs together."""
    graph = {name: imported(path) & modules().keys() - {name} for name, path in modules().items()}
    assert not (found := [" -> ".join(way) for way in circles(graph)]), "\n".join(found)


def test_circles_are_found() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == [["b", "c"], ["c", "b"]]


OWNERS = ("mobilevd.model", "mobilevd.transforms", "export.generator.folding")
BLOCK_NAMES = re.compile(r"\b(down_blocks|up_blocks|mid_block|resnets)\b")
BLOCK_CLASSES = {"SpatioTemporalResBlock", "SpatioTemporalTransformer", "Resample", "DownBlock", "MidBlock", "UpBlock"}
# diffusers' own VAE, whose stages happen to be called so
NOT_THE_UNET = {"export.codec.vae"}


def code_words(path: Path) -> Iterator[tuple[int, str]]:
    """Names, attributes and texts of a file with their lines; docstrings and comments left out."""
    texts = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.lineno, node.value


def test_only_the_model_and_what_rewrites_it_know_the_unets_blocks() -> None:
    for name, path in modules().items():
        if inside(name, *OWNERS) or name in NOT_THE_UNET:
            continue
        for line, word in code_words(path):
            assert not BLOCK_NAMES.search(word) and word not in BLOCK_CLASSES, f"{name}, line {line}: {word}"


def test_no_public_class_name_twice() -> None:
    places = defaultdict(list)
    for name, path in modules().items():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice, twice


NOT_IMPORTED = {
    "adbutils": "only the adb program in its wheel is used",
}
IMPORT_NAMES = {"pyyaml": "yaml", "opencv-python-headless": "cv2", "scenedetect-headless": "scenedetect"}


def test_every_dependency_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [path for path in project_files() if path.suffix == ".py" and not path.is_relative_to(ROOT / "tests")]
    used = {name.partition(".")[0] for path in ours for name in imported(path)}
    for text in project["dependencies"]:
        name = Requirement(text).name
        is_used = IMPORT_NAMES.get(name, name).replace("-", "_") in used
        assert is_used is (name not in NOT_IMPORTED), f"{name} is {'' if is_used else 'not '}imported"


def test_device_runner_imports_without_torch() -> None:
    """Every module of it, in a process where neither torch nor another room can be imported."""
    script = (
        "import importlib, sys\n"
        "for name in ['torch', 'mobilevd', 'training', 'export', 'eval']: sys.modules[name] = None\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    names = [name for name in modules() if inside(name, "device_runner")]
    result = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_says_what_it_is_for(room: str) -> None:
    for path in (ROOT / room).rglob("__init__.py"):
        assert ast.get_docstring(tree(path)), f"{path.relative_to(ROOT)} says nothing"
