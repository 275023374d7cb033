"""The house: clean code, documents that are true, a set-up that works, and nothing that belongs to one machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.source import ROOMS, ROOT, project_files


def test_ruff() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_pyright() -> None:
    # the package carries pyright and node; told not to look for a newer one, it needs no network
    offline = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1"}
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **offline})
    assert result.returncode == 0, result.stdout + result.stderr


def test_nothing_of_one_machine() -> None:
    """No path of a developer's machine, no host of a package registry: neither would hold elsewhere."""
    machine = re.compile(r"(?<![\w.~*}/-])/(?:work|root|home/\w+|Users/\w+)/")
    hosts = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", "npm" + "js", "download" + r"\.pytorch"]))
    options = re.compile("|".join(["--index" + "-url", "--extra-index" + "-url", "--find" + "-links"]))
    found = []
    for path in project_files():
        data = path.read_bytes()
        if b"\0" in data[:8192] or path == Path(__file__):
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
            if machine.search(line) or hosts.search(line) or options.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {}
    for line in lines:
        match = re.fullmatch(r"([a-z0-9-]+)==([0-9A-Za-z.+]+)", line)
        assert match, f"constraints.txt: {line!r} is no name==version"
        pins[match[1]] = match[2]
    return pins


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = constraints()
    for text in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
        requirement = Requirement(text)
        assert requirement.name in pins, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pins[requirement.name]), f"{text} excludes {pins[requirement.name]}"


def test_the_readme_and_ci_give_the_same_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    ci = (ROOT / ".ci" / "run").read_text()
    assert "sh setup.sh mobilevd run configs/tiny.yaml" in readme
    assert "sh setup.sh pytest" in readme and "sh setup.sh pytest" in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    for script in ("setup.sh", ".ci/run"):
        assert subprocess.run(["sh", "-n", str(ROOT / script)]).returncode == 0


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_links_between_documents_lead_somewhere() -> None:
    for document in documents():
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).is_file(), f"{document.name} links {target}"


def test_every_page_of_the_documents_is_reached() -> None:
    linked = {Path(target).name for each in documents() for target in re.findall(r"\]\(([^)#]+)\)", each.read_text())}
    pages = {page.name for page in ROOT.glob("docs/*.md")}
    assert not pages - linked, pages - linked


def test_documents_name_only_commands_that_are_there() -> None:
    text = "\n".join(document.read_text() for document in documents())
    result = subprocess.run([sys.executable, "-m", "mobilevd", "--help"], capture_output=True, text=True)
    known = set(re.findall(r"^  ([a-z-]+) ", result.stdout, flags=re.MULTILINE))
    named = set(re.findall(r"\bmobilevd ([a-z][a-z-]*)", "\n".join(re.findall(r"```.*?```", text, flags=re.DOTALL))))
    assert named and known
    assert named <= known, f"documents name {named - known}"


def test_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def setup_project(folder: Path, uv: str) -> dict[str, str]:
    """A project whose uv is a stand-in that notes its arguments, and the environment to run setup.sh in."""
    for name in ("setup.sh", "pyproject.toml", "constraints.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / ".bootstrap" / "bin").mkdir(parents=True)
    program = folder / ".bootstrap" / "bin" / "uv"
    program.write_text('#!/bin/sh\nset -e\necho "$@" >>log\n' + uv)
    program.chmod(0o755)
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


MAKES_A_VENV = """
if [ "$1" = venv ]; then
    for last; do :; done
    mkdir -p "$last/bin"
    printf '#!/bin/sh\\n[ "$1" != -m ] || echo python "$@" >>"$PWD/log"\\n' >"$last/bin/python"
    printf '#!/bin/sh\\necho installed\\n' >"$last/bin/hello"
    chmod +x "$last/bin/python" "$last/bin/hello"
fi
"""


def test_setup_installs_once_and_runs_the_command(tmp_path: Path) -> None:
    environment = setup_project(tmp_path, MAKES_A_VENV)

    def setup(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "setup.sh", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    first = setup("hello")
    assert (first.returncode, first.stdout) == (0, "installed\n"), first.stderr
    steps = (tmp_path / "log").read_text().splitlines()
    assert [step.split()[0] for step in steps] == ["venv", "pip"]
    assert "-c constraints.txt -e .[dev]" in steps[1] and "--compile-bytecode" in steps[1]
    again = setup("sh", "-c", "exit 7")
    assert (again.returncode, again.stderr) == (7, "")
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# another\n")
    assert setup("hello").returncode == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 3  # installed again into the same .venv


def run_setup(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "setup.sh", "hello"], cwd=folder, env=environment, capture_output=True, text=True)


def test_setup_that_failed_is_tried_again(tmp_path: Path) -> None:
    environment = setup_project(tmp_path, "[ -e allowed ]\n" + MAKES_A_VENV)
    (tmp_path / ".venv").mkdir()  # without a python: neither way can go on
    failed = run_setup(tmp_path, {**environment, "PATH": f"{stand_in_python(tmp_path)}:/usr/bin:/bin"})
    assert failed.returncode != 0 and failed.stdout == ""
    (tmp_path / "allowed").touch()
    result = run_setup(tmp_path, environment)
    assert (result.returncode, result.stdout) == (0, "installed\n"), result.stderr


def stand_in_python(folder: Path) -> Path:
    """A folder with a python3 of the right version that makes no environments."""
    place = folder / "bin"
    place.mkdir()
    script = '#!/bin/sh\n[ "$1" = -c ] || exit 1\ncase $2 in *print*) echo "$0" ;; esac\n'
    (place / "python3").write_text(script)
    (place / "python3").chmod(0o755)
    return place


def test_setup_goes_on_with_pip_where_uv_fails(tmp_path: Path) -> None:
    environment = setup_project(tmp_path, MAKES_A_VENV + '[ "$1" = venv ] || { echo UnknownIssuer >&2; exit 2; }\n')
    result = run_setup(tmp_path, environment)
    assert (result.returncode, result.stdout) == (0, "installed\n"), result.stderr
    assert "UnknownIssuer" in result.stderr and "uv failed (see above); trying venv and pip" in result.stderr
    log = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[0] for line in log] == ["venv", "pip", "python", "python"]
    assert log[-1].startswith("python -m pip install") and log[-1].endswith("-c constraints.txt -e .[dev]")


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, "true"),
        ({"PIP_CERT": "FILE"}, "true FILE"),
        ({"REQUESTS_CA_BUNDLE": "FILE", "SSL_CERT_FILE": ""}, "true FILE"),
        ({"UV_SYSTEM_CERTS": "false", "PIP_CERT": "no-such-file"}, "false"),
    ],
)
def test_uv_trusts_whom_pip_trusts(tmp_path: Path, given: dict[str, str], seen: str) -> None:
    environment = setup_project(tmp_path, MAKES_A_VENV + 'echo "$UV_SYSTEM_CERTS ${SSL_CERT_FILE:-}" >>seen\n')
    (tmp_path / "company.pem").touch()
    file = str(tmp_path / "company.pem")
    result = run_setup(tmp_path, {**environment, **{key: value.replace("FILE", file) for key, value in given.items()}})
    assert result.returncode == 0, result.stderr
    expected = seen.replace("FILE", file)
    assert {line.strip() for line in (tmp_path / "seen").read_text().splitlines()} == {expected}


def test_setup_asks_for_space_before_it_fetches(tmp_path: Path) -> None:
    environment = setup_project(tmp_path, MAKES_A_VENV)
    tools = stand_in_python(tmp_path)
    (tools / "df").write_text("#!/bin/sh\necho Filesystem blocks Used Available\necho disk 9 9 1234567 9 /\n")
    (tools / "df").chmod(0o755)
    result = run_setup(tmp_path, {**environment, "PATH": f"{tools}:/usr/bin:/bin"})
    assert result.returncode == 1 and not (tmp_path / "log").exists()
    assert f"{tmp_path} has 1 GB free, and .venv takes 7" in result.stderr


def test_the_version_has_one_place() -> None:
    import mobilevd

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mobilevd.__version__"}
    assert version("mobilevd") == mobilevd.__version__
    assert f"## {mobilevd.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_documents_name_only_files_that_are_there() -> None:
    for document in documents():
        name, text = document.name, document.read_text()
        folders = "|".join((*ROOMS, "configs", "tests", "benchmarks", "assets"))
        named = re.findall(rf"`((?:{folders})/[\w./-]+)`", text)
        modules = re.findall(rf"python -m ((?:{folders})[\w.]+)", text)
        files = [*named, *(module.replace(".", "/") + ".py" for module in modules)]
        missing = [file for file in files if not (ROOT / file).exists()]
        assert not missing, f"{name} names {', '.join(missing)}"


def test_pre_commit_runs_the_same_checks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].split()[:2] for hook in hooks] == [[".venv/bin/ruff", "check"], [".venv/bin/ruff", "format"]]
