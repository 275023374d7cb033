"""`mobilevd init`: configurations to start from, in a folder of the user's: two tiny ones, and one for an own model."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from mobilevd.config.load import load_config
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_text
from mobilevd.places import check_writable
from mobilevd.shipped import SHIPPED
from mobilevd.terminal import TerminalConsole

COPIED = ("tiny.yaml", "smoke.yaml")
OWN = "mobilevd.yaml"
MODEL, VIDEOS, FEATURES = "/path/to/svd", "/path/to/videos", "/path/to/i3d_torchscript.pt"
"""What stands in the configuration for an own model until it is filled in."""
HEAD = """\
# {title}
#
#   mobilevd run {file} --dry-run    checks it, and tells memory, FLOPs and hours; trains nothing
#   mobilevd run {file}              does it; the same command goes on after any interruption
#   accelerate launch --multi_gpu -m mobilevd run {file}     on several GPUs
#
# Any value can be changed on the command line, too: `mobilevd run {file} data.fps=8 stages.funnels.training.steps=100`.
#
# The stages below are the paper's (arXiv 2412.07583), one after the other. Where values come from: [P] published there,
# [S] published by SF-V (arXiv 2406.04324), whose training it follows, [V] of Stable Video Diffusion as diffusers runs it,
# [R] recalled and not verified, [O] ours.
name: own                      # the run's folder is runs/own; `output: FOLDER` names another
seed: 0

# The GPU that --dry-run plans for: a name (a100-80gb, h100, rtx4090, ...) and how many.
# hardware: {{gpu: a100-80gb, gpus: 8}}

base:
  model: {model}  # an SVD checkpoint's folder (its unet/ is taken), or that of a UNet alone
  codec: {codec}  # the folder that holds its vae/ and image_encoder/

data:
  videos: {videos}  # a folder of videos, a .csv or .jsonl manifest, tar shards, or their URL
"""


def init_command(
    folder: Path, model: Path | None = None, videos: str | None = None, console: Console | None = None
) -> None:
    """Write the configurations into a folder, and tell what to do with them.

    Args:
        folder: new or there; only files of names that are free in it are written.
        model: the user's SVD checkpoint, to fill in.
        videos: the user's videos, to fill in: a folder, a manifest, or shards.

    Raises UserError for a file that is there already, a model or videos that are not, and a folder that cannot be written.
    """
    files = {name: (SHIPPED / "configs" / name).read_text(encoding="utf-8") for name in COPIED}
    files[OWN] = own_config(folder / OWN, _checked_model(model), _checked_videos(videos))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the name of a folder")
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise UserError(f"{folder / there[0]}: is there already and is not replaced; give another folder")
    check_writable(folder / OWN)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        atomic_write_text(folder / name, text)
        load_config(folder / name)  # what a run reads first
    console = console or TerminalConsole()

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    line(f"{folder / 'tiny.yaml'}: the whole method at a tiny scale, with what comes with the package")
    line(f"{folder / 'smoke.yaml'}: the same stages in two minutes, to see that they work here")
    missing = [name for name, given in (("base.model", model), ("data.videos", videos)) if given is None]
    line(f"{folder / OWN}: the paper's recipe for your model" + (f"; fill in {', '.join(missing)}" if missing else ""))
    line(f"next: mobilevd run {folder / 'tiny.yaml'}")


def own_config(file: Path, model: Path | None = None, videos: str | None = None) -> str:
    """The text of the configuration for an own model: the shipped recipe behind a head that says what to fill in."""
    recipe = (SHIPPED / "configs" / OWN).read_text(encoding="utf-8")
    _, found, rest = recipe.partition("  holdout:")
    if not found:
        raise ValueError(f"{SHIPPED / 'configs' / OWN}: data.holdout is not where it was")
    checkpoint = str(model.absolute()) if model else MODEL
    head = HEAD.format(
        title="The paper's recipe for your own model and videos." + ("" if model and videos else " Fill in the paths."),
        file=file.name,
        model=json.dumps(checkpoint),
        codec=json.dumps(checkpoint if model is None or (model / "vae").is_dir() else MODEL),
        videos=json.dumps(videos or VIDEOS),
    )
    before, features, after = rest.partition("  features: i3d:models/i3d_torchscript.pt")
    if not features:
        raise ValueError(f"{SHIPPED / 'configs' / OWN}: evaluation.features is not where it was")
    judged = (
        f"  features: i3d:{FEATURES}  # FVD; `mobilevd weights i3d --to FOLDER` fetches it;\n"
        "                               # `features: motion` judges motion with what comes with the package"
    )
    return head + found + before + judged + after


def _checked_model(model: Path | None) -> Path | None:
    if model is not None:
        from mobilevd.model.model_place import model_folder  # torch-free, as all of this

        config = model_folder(model) / "config.json"
        if not config.is_file():
            raise UserError(
                f"{model}: holds no config.json of a UNet; give an SVD checkpoint in the layout of diffusers"
            )
    return model


def _checked_videos(videos: str | None) -> str | None:
    if videos is None or "://" in videos or "{" in videos:
        return videos
    place = Path(videos).expanduser()
    if not place.exists():
        raise UserError(f"{videos}: no such folder or file; give a folder of videos, a manifest, or shards")
    return str(place.absolute())
