"""The order of work of a run, and its results: results.json, report.md and the table in the terminal."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import PartialState
from rich.console import Console

from eval.features import load_extractor
from eval.report import render_table, write_report_markdown
from mobilevd.codecs.base import Codec
from mobilevd.collective import from_first, together
from mobilevd.config.load import find_stage
from mobilevd.config.schema import RunConfig
from mobilevd.files import atomic_write_json, atomic_write_text
from mobilevd.json_files import read_json
from mobilevd.pipeline.checks import check_run
from mobilevd.pipeline.data import RunClips, prepare_clips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.encode import encode_stages
from mobilevd.pipeline.estimate import check_disk, describe_estimate, estimate_run
from mobilevd.pipeline.evaluate import Evaluator
from mobilevd.pipeline.held_out import MAX_REFERENCE_CLIPS
from mobilevd.pipeline.make_anew import forget_anew, remove_rows, rows_to_remove
from mobilevd.pipeline.measure_row import inherit_host_ms, measure_doubtful_rows, measure_row
from mobilevd.pipeline.pairs import compare_all
from mobilevd.pipeline.processes import join_processes
from mobilevd.pipeline.row_features import features_are
from mobilevd.pipeline.row_files import check_row_files, files_of_row
from mobilevd.pipeline.rows import Entry, claim_folder
from mobilevd.pipeline.run_folder import hold_run_folder
from mobilevd.pipeline.train import train_entry
from mobilevd.report.page import write_report
from mobilevd.report.page_file import FILE as HTML_REPORT
from mobilevd.report.run_data import read_run
from mobilevd.terminal import TerminalConsole

TOOLS = ("torch", "diffusers", "executorch", "accelerate", "av", "mobilevd")


def run(
    config: RunConfig, console: Console, trusted: str | None = None, from_stage: str | None = None
) -> dict[str, Any]:
    """Do all that is not done yet and print the table; return the content of results.json.

    Args:
        trusted: SHA-256 of a TorchScript file that may be loaded (`eval.networks.i3d_torchscript`).
        from_stage: a stage that is made anew with those after it, whatever there is of them.
    """
    started = time.perf_counter()
    processes, display = _begin(console)
    checked = check_run(config, trusted)
    entries, codec = checked.entries, checked.codec.to(processes.device)
    removed = rows_to_remove(config.output, entries, from_stage)
    done = None if from_stage or removed else _finished_results(config, entries)
    processes.wait_for_everyone()  # everyone has looked before anyone writes
    if done is None:
        with hold_run_folder(config.output, processes):
            display.line(from_first(processes, partial(_estimated, config, entries, removed, processes.num_processes)))
            if from_stage or removed:
                from_first(processes, partial(remove_rows, config.output, removed, from_stage or removed[0].name))
            done = _work(config, entries, codec, display, processes, trusted)
        display.line(f"\ndone in {(time.perf_counter() - started) / 60:.1f} minutes")
    else:
        display.line(f"{config.output}: all of this run is done already")
        if processes.is_main_process and not (config.output / HTML_REPORT).is_file():
            write_report([read_run(config.output)], config.output / HTML_REPORT)  # of an earlier version, or lost
    render_table(done["rows"], display.console, protocol=done["protocol"], remarks=done.get("remarks", ()))
    display.line(f"report: {config.output / HTML_REPORT}   figures: {config.output / 'results.json'}")
    return done


def _estimated(config: RunConfig, entries: list[Entry], removed: list[Entry], processes: int) -> str:
    """The estimate in a line; UserError if the disk is too small for it."""
    estimate = estimate_run(config, entries, processes, removed)
    check_disk(config, estimate)
    return describe_estimate(estimate)


def _begin(console: Console | None) -> tuple[PartialState, Display]:
    """Set up a command that trains: processes and display; only the first of several processes prints."""
    processes = join_processes()
    return processes, Display(
        (console or TerminalConsole()) if processes.is_main_process else TerminalConsole(quiet=True)
    )


def train_stage(config: RunConfig, name: str, console: Console | None = None) -> Path:
    """Train one stage, whose predecessors must be there; return its model folder."""
    find_stage(config, name)
    processes, display = _begin(console)
    checked = check_run(config, for_training=True)
    codec = checked.codec.to(processes.device)
    entry = next(entry for entry in checked.entries if entry.stage is not None and entry.name == name)
    with hold_run_folder(config.output, processes):
        with processes.main_process_first():
            clips = prepare_clips(config, display)
        train_entry(config, entry, clips, codec, display, processes)
    display.line(f"model: {entry.model}")
    return entry.model


def cache(config: RunConfig, console: Console | None = None) -> None:
    """Encode the training clips of every stage that trains, so that training starts at once."""
    processes, display = _begin(console)
    if config.data.latents == "computed":
        display.line("data.latents is computed: there is nothing to encode ahead of training")
        return
    checked = check_run(config, for_training=True)
    codec = checked.codec.to(processes.device)
    with hold_run_folder(config.output, processes):
        with processes.main_process_first():
            clips = prepare_clips(config, display)
        stages = [entry for entry in checked.entries if entry.stage and entry.stage.objective.trains]
        encode_stages(config, stages, clips.train, codec, display, processes)


def _finished_results(config: RunConfig, entries: list[Entry]) -> dict[str, Any] | None:
    """The content of results.json, if it was made from exactly these settings."""
    file = config.output / "results.json"
    if not file.is_file():
        return None
    results = read_json(file)
    if not isinstance(results, dict) or results.get("settings") != _settings(config, entries):
        return None
    rows = results.get("rows")
    if not isinstance(rows, list) or len(rows) != len(entries):
        return None
    if not all(features_are(entry.folder, row.get("files")) for entry, row in zip(entries, rows, strict=True)):
        return None  # of an earlier version, or without its features: put together again from the rows' own files
    for entry, row in zip(entries, rows, strict=True):
        check_row_files(entry.folder, row["files"])
    return results


def _settings(config: RunConfig, entries: list[Entry]) -> dict[str, Any]:
    """The settings that a run must have in common with a finished one to count as finished."""
    judged = config.model_dump(mode="json", include={"evaluation", "export", "bench"})
    return {"fingerprint": entries[-1].fingerprint, "labels": [entry.label for entry in entries], **judged}


def _work(
    config: RunConfig,
    entries: list[Entry],
    codec: Codec,
    display: Display,
    processes: PartialState,
    trusted: str | None,
) -> dict[str, Any]:
    with processes.main_process_first():
        for entry in entries:  # before any work: check that this folder belongs to this configuration
            if entry.folder.exists():
                claim_folder(entry)
        atomic_write_text(config.output / "config.json", config.model_dump_json(indent=2))
        display.heading("data")
        clips = prepare_clips(config, display)
    evaluator = _evaluator(config, codec, clips, display, processes, trusted)
    for remark in evaluator.remarks():
        display.line(f"  {remark}")
    rows = []
    for number, entry in enumerate(entries):
        display.heading(f"{number + 1}/{len(entries)} {entry.label}")
        train_entry(config, entry, clips, codec, display, processes)
        row = _evaluate(evaluator, entry, config, display)
        from_first(processes, partial(_measure_and_record, config, entry, entries, codec, clips, display, row))
        rows.append(row)
    if processes.is_main_process:
        measure_doubtful_rows(config, entries, rows, display)
        _write_results(config, entries, rows, evaluator.remarks())
    processes.wait_for_everyone()
    return read_json(config.output / "results.json")


def _evaluator(
    config: RunConfig,
    codec: Codec,
    clips: RunClips,
    display: Display,
    processes: PartialState,
    trusted: str | None,
) -> Evaluator:
    """The evaluator of all rows, with the real clips summarized by all processes."""
    features, device = config.evaluation.features, str(processes.device)
    extractor = together(processes, lambda: load_extractor(features, device=device, trusted=trusted))
    count = min(len(clips.test.clips), MAX_REFERENCE_CLIPS)
    with display.bar(f"reading {count} clips to compare with", count) as bar:
        return Evaluator.of(config, extractor, codec, clips, processes, lambda done: bar.update(done, count))


def _measure_and_record(
    config: RunConfig,
    entry: Entry,
    entries: list[Entry],
    codec: Codec,
    clips: RunClips,
    display: Display,
    row: dict[str, Any],
) -> None:
    """What the first process does after a row is judged: export, measure, note the files, and tell."""
    row.update(measure_row(config, entry, entries, codec, clips, display))
    _record_files(entry, row)
    display.line(f"  {_summary(row)}")


def _write_results(config: RunConfig, entries: list[Entry], rows: list[dict[str, Any]], remarks: list[str]) -> None:
    inherit_host_ms(rows)
    pairs = compare_all(entries, rows)
    results = {
        "name": config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": config.seed,
        "machine": _machine(config),
        "protocol": {**rows[0]["protocol"], "extractor": rows[0]["extractor"]},
        "remarks": remarks,
        "rows": rows,
        "pairs": pairs,
        "settings": _settings(config, entries),
    }
    atomic_write_json(config.output / "results.json", results)
    write_report_markdown(config.output / "report.md", results)
    write_report([read_run(config.output)], config.output / HTML_REPORT)
    forget_anew(config.output)


def _evaluate(evaluator: Evaluator, entry: Entry, config: RunConfig, display: Display) -> dict[str, Any]:
    """The entry's figures from metrics.json, or from a new evaluation if there are none of this protocol."""
    file = entry.folder / "metrics.json"
    asked = {
        **config.model_dump(mode="json", include={"evaluation"})["evaluation"],
        "one_step": entry.one_step,
        "reference_clips": evaluator.reference_identity,
    }
    kept = from_first(evaluator.processes, lambda: _kept_figures(file, asked))
    if kept is not None:
        return {**kept, "name": entry.label}
    count = config.evaluation.clips * config.evaluation.seeds
    with display.bar(f"generating and judging {count} clips", count) as bar:
        row = evaluator.evaluate(entry, lambda done: bar.update(done, count))
    samples = {"video": f"{entry.folder.name}/samples.mp4", "contact_sheet": f"{entry.folder.name}/contact_sheet.png"}
    row = {"name": entry.label, "stage": entry.name, **row, "samples": samples, "asked": asked}
    from_first(evaluator.processes, lambda: atomic_write_json(file, {**row, "files": files_of_row(entry.folder)}))
    return row


def _kept_figures(file: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The content of a metrics.json that was made as it is asked for now."""
    if not file.is_file():
        return None
    kept = read_json(file)
    if not isinstance(kept, dict) or kept.get("asked") != asked:
        return None
    if not features_are(file.parent, kept.get("files")):
        return None  # of an earlier version, or its features are lost: judged once more
    check_row_files(file.parent, kept["files"])
    return kept


def _record_files(entry: Entry, row: dict[str, Any]) -> None:
    """Note in the row and in its metrics.json which files the figures are of."""
    row |= {"folder": entry.folder.name, "files": files_of_row(entry.folder)}
    file = entry.folder / "metrics.json"
    judged = read_json(file)
    if judged.get("files") != row["files"]:
        atomic_write_json(file, {**judged, "files": row["files"]})


def _summary(row: dict[str, Any]) -> str:
    host = f", {row['host_ms']:.1f} ms" if row.get("host_ms") else ""
    return (
        f"{row['distance_name']} {row['distance']:.3f}, motion {row['motion_ratio']:.2f}, "
        f"{row['parameters'] / 1e6:.2f} M parameters, {row['tflops'] * 1e3:.2f} GFLOPs, NFE {row['nfe']}{host}"
    )


def _machine(config: RunConfig) -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {tool: version(tool) for tool in TOOLS},
        "bench": config.bench.model_dump(),
    }
