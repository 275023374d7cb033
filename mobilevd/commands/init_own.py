"""The text of the configuration for an own model: the shipped recipe, with every key, its meaning and default."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mobilevd.config.load import load_config
from mobilevd.config.objectives import AdversarialSettings
from mobilevd.config.schema import RunConfig
from mobilevd.shipped import SHIPPED

RECIPE = SHIPPED / "configs" / "mobilevd.yaml"
MODEL, VIDEOS, FEATURES = "/path/to/svd", "/path/to/videos", "/path/to/i3d_torchscript.pt"
"""What stands in the configuration until it is filled in."""
WIDTH = 120
HEAD = """\
# {title}
#
#   mobilevd run {file} --dry-run    checks it, and tells memory, FLOPs and hours; trains nothing
#   mobilevd run {file}              does it; the same command goes on after any interruption
#   accelerate launch --multi_gpu -m mobilevd run {file}     on several GPUs
#
# Any value can be changed on the command line, too: `mobilevd run {file} data.fps=8 stages.funnels.training.steps=100`.
#
# The recipe is the paper's (arXiv 2412.07583). Above a key stands its meaning; behind it, where the value comes from:
# [P] published there, [S] published by SF-V (arXiv 2406.04324), whose training it follows, [V] of Stable Video Diffusion
# as diffusers runs it, [R] recalled and not verified, [O] ours. `#key: value` is a key that is left at its default; take
# the # away (and that of its section) to change it.

# name of the run, whose folder is runs/own; `output: FOLDER` names another
name: own
# seed of everything random
seed: 0
"""
STAGES = """
# One after the other: each changes the architecture of the model that the one before ended with (transforms), and then
# trains it (objective). Its own `training` overrides single keys of the one above.
"""


def own_config(file: Path, model: Path | None = None, codec: Path | None = None, videos: str | None = None) -> str:
    """The text of a configuration; `file` is the name that its comments call it by.

    Args:
        model: folder of the user's SVD checkpoint or UNet; None leaves a place to fill in.
        codec: folder that holds its `vae` and `image_encoder`; None as above.
        videos: a folder, manifest or shards; None as above.
    """
    given = {
        "base": {
            "model": f"{json.dumps(str(model or MODEL))}  # an SVD checkpoint (its unet/ is taken), or a UNet alone",
            "codec": f"{json.dumps(str(codec or MODEL))}  # the folder that holds its vae/ and image_encoder/",
        },
        "data": {"videos": json.dumps(videos or VIDEOS)},
        "evaluation": {
            "features": f"i3d:{FEATURES}  # FVD; `mobilevd weights i3d --to FOLDER` fetches it; motion needs no file"
        },
    }
    filled = None not in (model, codec, videos)
    title = "The paper's recipe for your own model and videos." + ("" if filled else " Fill in the /path/to/... below.")
    parts = [HEAD.format(title=title, file=file.name)]
    resolved = load_config(RECIPE)
    written = _sections(RECIPE.read_text(encoding="utf-8"))
    for name, field in RunConfig.model_fields.items():
        kind = field.annotation
        if name == "stages":
            parts.append(STAGES + "".join(_explained(written[name], AdversarialSettings, 6)))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            settings: BaseModel = getattr(resolved, name)
            parts.append("\n" + _comment(_first_line(kind), 0))
            parts.append("".join(_section(name, written.get(name), settings, given.get(name, {}))))
    return "".join(parts)


def _sections(text: str) -> dict[str, list[str]]:
    """The lines below each key of the top, without those that are empty or only a comment; the key's own line first."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if key := re.match(r"([a-z_]+):", line):
            lines = found[key[1]] = []
        if line.strip() and not line.lstrip().startswith("#"):
            lines.append(line)
    return found


def _section(name: str, lines: list[str] | None, settings: BaseModel, given: dict[str, str]) -> Iterator[str]:
    """A section with every key: those of the recipe with its values, or the user's, and the others at their defaults."""
    written = []
    for line in lines[1:] if lines else []:
        key = re.match(r"  (\w+): ", line)
        written.append(f"{key[0]}{given[key[1]]}" if key and key[1] in given else line)
    if lines and (inline := re.fullmatch(rf"{name}: {{(.*)}}", lines[0])):  # a section in one line
        written = [f"  {each}" for each in inline[1].split(", ")]
    yield f"{name}:\n" if lines else f"#{name}:\n"
    yield from _explained(written, type(settings), 2)
    there = {key[1] for line in written if (key := re.match(r"  (\w+):", line))}
    values = settings.model_dump(mode="json")
    for key, field in type(settings).model_fields.items():
        if key not in there and not isinstance(getattr(settings, key), BaseModel):
            yield _comment(field.description or key, 2)
            yield f"{'  #' if lines else '#  '}{key}: {_yaml(values[key])}\n"


def _explained(lines: list[str], kind: type[BaseModel], indent: int) -> Iterator[str]:
    """The lines, and above a key of these settings its meaning and default: where it stands the first time."""
    told = set()
    for line in lines:
        match = re.match(rf" {{{indent}}}(\w+):", line)
        field = kind.model_fields.get(match[1]) if match else None
        if match and field is not None and match[1] not in told and match[1] != "kind":
            told.add(match[1])
            default = (
                "" if field.is_required() else f" (default: {_yaml(field.get_default(call_default_factory=True))})"
            )
            yield _comment(f"{field.description or match[1]}{default}", indent)
        yield f"{line}\n"


def _comment(text: str, indent: int) -> str:
    start = " " * indent + "# "
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False) + "\n"


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _yaml(value: Any) -> str:
    bare = isinstance(value, str) and re.fullmatch(r"[a-z][\w-]*", value) and value not in ("no", "off", "on", "yes")
    return value if bare else json.dumps(value)
