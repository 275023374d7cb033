"""The source as the tests of the house read it: files, imports, classes."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("device_runner", "eval", "export", "mobilevd", "training")


def project_files() -> list[Path]:
    """What git tracks or would; without git, everything that is not hidden or built."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        files = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = re.compile(r"(^|/)(\.(?!ci|gitignore)|runs/|build/|__pycache__|[^/]*\.egg-info)")
        files = [path for path in ROOT.rglob("*") if not hidden.search(path.relative_to(ROOT).as_posix())]
    return sorted(path for path in files if path.is_file())


@cache
def modules() -> dict[str, Path]:
    """Every module of the rooms by its dotted name; a package's `__init__` by the package's."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """Dotted names of all that a file imports: at its top, inside functions and for type checking.

    `from a.b import c` is `a.b.c` where that is a module of the rooms, else `a.b`.
    """
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide where a name is from"
            dotted = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {full if full in modules() else node.module for full in dotted.values()}
    return names


def inside(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or modules, or in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)
