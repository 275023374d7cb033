"""`mobilevd evaluate`: compares any two folders of videos."""

from __future__ import annotations

import hashlib
import json as json_format
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from eval.feature_cache import FeatureCache
from eval.feature_file import is_feature_file, read_features, write_features
from eval.features import load_protocol_extractor
from eval.frames.network import load_frame_network
from eval.gather import GatheredClips
from eval.protocol_settings import ProtocolSettings
from mobilevd.commands.evaluate_clips import ClipChoice, ClipForm
from mobilevd.commands.evaluate_figures import ClipFigures
from mobilevd.commands.evaluate_protocols import load_protocols, with_their_clips
from mobilevd.commands.evaluate_result import TABLE_START, compare, protocol, show, write_table
from mobilevd.commands.evaluate_settings import PAIRED, EvaluateSettings
from mobilevd.commands.evaluate_side import Networks, Side
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.places import begins_with, check_output_file, check_writable, is_json_with
from mobilevd.terminal import TerminalConsole
from training.data.sources.missing import first_few
from training.data.videos import Video


def evaluate_command(
    generated: Path,
    reference: Path | None,
    settings: EvaluateSettings,
    *,
    json: Path | None = None,
    per_clip: Path | None = None,
    reference_features: Path | None = None,
    cache: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Print the figures of generated clips against reference ones, write and return them.

    Args:
        generated, reference: folders, manifests or tar shards, as `training.data.sources` has them. `reference` may be None
            if `reference_features` exists.
        json, per_clip: files to write: all figures; a line per clip.
        reference_features: file of the reference's features: read if it is there, else written.
        cache: file in which the features of single clips are kept; without it the reference's are, beside
            `reference_features` until that is written.

    Raises:
        UserError: nothing to compare, too much that cannot be read, options that do not fit.
    """
    settings.check()
    inputs = [place for place in (generated, reference) if place is not None]
    ready = _check_files(inputs, json, per_clip, reference_features, cache)
    if reference is None and not ready:
        what = "--reference FOLDER" if reference_features is None else f"{reference_features} is not there: --reference"
        raise UserError(f"{what} is wanted: the clips to compare with")
    console = console or TerminalConsole()
    partial = None
    if cache is None and reference_features is not None and not ready:
        partial = reference_features.with_name(reference_features.name + ".partial")
    device = resolve_device(settings.device)
    protocols, weights = load_protocols(settings)
    settings = with_their_clips(settings, protocols)
    networks = _load(settings, device, protocols, weights)
    ours = Side.open("generated", generated, with_content=cache is not None)
    form = _form(ours, settings)
    choice = ClipChoice(settings.per_video, "random" if settings.sampling == "random" else "first", settings.seed)
    ours.choose(form, choice, settings)
    theirs = None
    if reference is not None:
        theirs = Side.open("reference", reference, with_content=bool(cache or partial) and not ready)
        if not ready:
            theirs.choose(form, choice, settings)
    pairs, why_unpaired = _pairs(ours, theirs, settings)
    figures = ClipFigures.of(settings, form, device, why_unpaired)
    identity = {
        "frames": form.num_frames,
        "size": f"{form.width}x{form.height}",
        "fps": form.fps,
        "clips per video": settings.per_video,
        "sampling": [choice.sampling, choice.seed],
        **networks.identity,
        "figures": ", ".join(figures.alone().names) or "none",
    }
    if theirs is not None:
        names = json_format.dumps([each.video.name for each in theirs.probed])
        identity["videos"] = [len(theirs.probed), hashlib.sha256(names.encode()).hexdigest()]
    if ready:
        assert reference_features is not None
        compared_with = read_features(reference_features, identity)
    else:
        assert theirs is not None
        with _kept(cache or partial) as kept, _progress(console, "reference clips", theirs) as on_clip:
            theirs.read(form, figures.alone(), networks, settings, kept, on_clip=on_clip)
        compared_with = theirs.gathered
        if reference_features is not None:
            write_features(reference_features, compared_with, identity)
            if partial is not None:
                partial.unlink(missing_ok=True)
    # what belongs to a pair is not kept: it would be another with another reference
    with _kept(None if figures.needs_pairs else cache) as kept, _progress(console, "generated clips", ours) as on_clip:
        ours.read(form, figures, networks, settings, kept, pairs if figures.needs_pairs else None, on_clip)
    result = {
        **compare(ours.gathered, compared_with, networks, settings, form),
        "unavailable": figures.unavailable,
        "protocol": protocol(ours, len(compared_with), form, choice, networks),
        "left_out": {side.what: side.left_out() for side in (ours, theirs) if side is not None},
        "from_cache": ours.from_cache + (theirs.from_cache if theirs else 0),
    }
    if json is not None:
        atomic_write_json(json, result)
    if per_clip is not None:
        sides: dict[str, GatheredClips] = {"generated": ours.gathered, "reference": compared_with}
        write_table(per_clip, sides, networks)
    show(result, console)
    return result


def _check_files(
    inputs: list[Path], json: Path | None, per_clip: Path | None, features: Path | None, cache: Path | None
) -> bool:
    """Raise UserError if a file cannot be written or is no file of ours; True if the features are there already."""
    if json is not None:
        ours = (is_json_with("distance", "motion_ratio"), is_json_with("protocol", "left_out"))
        check_output_file(json, lambda file: any(is_ours(file) for is_ours in ours), "an evaluation", inputs)
    if per_clip is not None:
        check_output_file(per_clip, begins_with(TABLE_START), "a table of an evaluation", inputs)
    if cache is not None:
        check_writable(cache)
        if cache.exists():
            FeatureCache(cache).close()
    if features is None:
        return False
    if not features.exists():
        check_writable(features)
        return False
    if not is_feature_file(features):
        raise UserError(f"{features}: holds no features of clips; give another name")
    return True


def resolve_device(name: str) -> str:
    """The device of a name; "auto" is the best there is. UserError for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, is_there in there.items() if is_there)
    if not there[name]:
        known = ", ".join(device for device, is_there in there.items() if is_there)
        raise UserError(f"--device {name}: not available here, {known} is")
    return name


def _load(
    settings: EvaluateSettings, device: str, protocols: Mapping[str, ProtocolSettings], weights: Path | None
) -> Networks:
    """The networks of the metrics. UserError for what cannot be loaded."""
    size, trusted = settings.batch_size, settings.trusted
    extractors = [
        (name, load_protocol_extractor(each, weights, device=device, batch_size=size, trusted=trusted))
        for name, each in (protocols.items() if "distance" in settings.metrics else ())
    ]
    network = None
    if "fid" in settings.metrics and settings.fid_network is not None:
        network = load_frame_network(settings.fid_network, device=device, trusted=settings.trusted_fid)
    return Networks(extractors, network, size, protocols)


def _form(generated: Side, settings: EvaluateSettings) -> ClipForm:
    """The form of the settings; what they leave open is that of the first readable generated video."""
    first = generated.first.info
    assert first is not None
    height, width = settings.size or (first.height, first.width)
    form = ClipForm(settings.num_frames or first.num_frames, settings.fps or first.fps, height, width)
    if form.num_frames < 2:
        raise UserError(f"{generated.first.video}: 1 frame; clips of 2 and more are compared")
    return form


def _pairs(ours: Side, theirs: Side | None, settings: EvaluateSettings) -> tuple[dict[str, Video], str]:
    """The reference's video of each generated one, by its name; or the reason why they are not paired."""
    if not settings.paired and not set(settings.metrics) & {*PAIRED, "warping", "flicker"}:
        return {}, "not asked for"
    reason = "the reference's videos are not given, only their features"
    if theirs is not None:
        there = theirs.videos_by_name
        here = ours.videos_by_name
        pairs = {video.name: there[name] for name, video in here.items() if name in there}
        lonely = [video.name for video in here.values() if video.name not in pairs]
        if not lonely:
            return pairs, ""
        few = first_few(lonely)
        reason = f"{len(lonely)} of {len(here)} generated videos have no reference of their name ({few})"
    if settings.paired:
        raise UserError(f"--paired: {reason}")
    return {}, reason


@contextmanager
def _kept(file: Path | None) -> Iterator[FeatureCache | None]:
    if file is None:
        yield None
        return
    cache = FeatureCache(file)
    try:
        yield cache
    finally:
        cache.close()


@contextmanager
def _progress(console: Console, what: str, side: Side) -> Iterator[Callable[[int], None]]:
    total = side.plan.num_clips if side.plan else None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)
