"""Writing a store: every process encodes its share of the shards, and a kill loses the shard under way at most.

What is in a shard follows from the list of clips alone, so another number of processes goes on where the last stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from accelerate import PartialState

from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from mobilevd.files import sha256_file
from mobilevd.folder_lock import hold_folder
from training.data.store.decoding import ClipDecoder, Decoded
from training.data.store.groups import ClipSet
from training.data.store.hashes import verify_shards
from training.data.store.manifest import MANIFEST, REPORT, Shard, StoreManifest, record_file, shard_file
from training.data.store.pieces import Encoder, is_storable
from training.data.store.place import LocalPlace, Place
from training.data.store.plan import Plan, WriteSettings, bytes_to_write, find_plan
from training.data.store.read import ShardStore
from training.data.store.shard import ShardFile, schema_of
from training.data.store.together import Team

POLL_S = 0.5

Progress = Callable[[int, int], None]


def write_store(
    place: Place,
    clips: ClipSet,
    codec: Codec,
    settings: WriteSettings,
    processes: PartialState,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> ShardStore:
    """Encode what is not encoded yet, and open the store. All processes call this, and all return when it is whole.

    `progress(clips done, clips)` is called in the first process, and only if there is something to encode; `say` with a
    line on every shard that has to be made again.

    Raises UserError for a place that holds something else, for a store made from something else (unless `renew`), if the
    disk is full or has not enough room, if no clip can be read. Finished shards stay.
    """
    team = Team(processes)
    with ExitStack() as stack:
        plan = team.first(lambda: find_plan(place, clips, codec, settings))
        if settings.verify:
            plan = verify_shards(place, plan, team)
        if say is not None:
            for line in plan.lines:
                say(line)
        if plan.to_do:

            def begin() -> None:
                if isinstance(place, LocalPlace):
                    stack.enter_context(hold_folder(place.folder))
                _check_room(place, plan, clips, codec)
                place.write_json(MANIFEST, replace(plan.manifest, shards=None).to_json())

            team.first(begin)
            finished = _encode(place, plan, clips, codec, settings, team, progress)
        else:
            finished = plan.finished
        manifest = replace(plan.manifest, shards=sorted(finished, key=lambda shard: shard.number))
        team.first(lambda: _finish(place, manifest, plan))
    return ShardStore(place, manifest)


def _check_room(place: Place, plan: Plan, clips: ClipSet, codec: Codec) -> None:
    needed, free = bytes_to_write(plan, clips, codec), place.free_bytes()
    if free is not None and needed > free:
        raise UserError(
            f"{place.shown()}: the clips take about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; free "
            "some space, give another data.cache, or a smaller training.latent_clips"
        )


def _encode(
    place: Place,
    plan: Plan,
    clips: ClipSet,
    codec: Codec,
    settings: WriteSettings,
    team: Team,
    progress: Progress | None,
) -> list[Shard]:
    """Encode what is to do, each process its share; return the finished shards of all."""
    manifest, to_do = plan.manifest, plan.to_do
    mine = to_do[team.processes.process_index :: team.processes.num_processes]
    total = sum(len(manifest.clips_of(shard)[1]) for shard in to_do)
    made: list[Shard] = []

    def advance(count: int) -> int:
        done = team.advance(count)
        if progress is not None and team.processes.is_main_process:
            progress(done, total)
        return done

    with team.working():
        jobs = [
            (section, number) for shard in mine for section, numbers in [manifest.clips_of(shard)] for number in numbers
        ]
        decoder = ClipDecoder(settings.workers, len(jobs))
        try:
            decoded = decoder.stream(clips.job(clips.groups[section], number) for section, number in jobs)
            encoders: dict[int, Encoder] = {}
            for shard in mine:
                number = manifest.clips_of(shard)[0]
                if number not in encoders:
                    size = manifest.sections[number].height, manifest.sections[number].width
                    encoders = {number: Encoder(codec, *size, clips.num_frames, manifest.precision)}
                made.append(_write_shard(place, manifest, shard, clips, encoders[number], decoded, advance))
                team.check()
        finally:
            decoder.close()
        while team.processes.is_main_process and advance(0) < total:  # the others' are under way
            team.check()
            time.sleep(POLL_S)
    return [*plan.finished, *team.gather(made)]


def _write_shard(
    place: Place,
    manifest: StoreManifest,
    shard: int,
    clips: ClipSet,
    encoder: Encoder,
    decoded: Iterator[Decoded],
    advance: Callable[[int], Any],
) -> Shard:
    """Write one shard, which appears whole or not at all, and the note that it is there."""
    section_number, numbers = manifest.clips_of(shard)
    section, group = manifest.sections[section_number], clips.groups[section_number]
    skipped: list[list[str]] = []

    def name(number: int) -> str:
        clip = group.clips[number]
        return f"{clip.video.name} at {clip.start_s:.3f} s"

    def add(waiting: Sequence[tuple[int, Decoded]]) -> None:
        latents, embeddings = encoder.encode([each.pixels for _, each in waiting if each.pixels is not None])
        for (number, each), clip_latents, embedding in zip(waiting, latents, embeddings, strict=True):
            if is_storable(clip_latents, embedding):
                bucket = float(group.motion_buckets[number])
                file.add(name(number), clip_latents.numpy(), embedding.numpy(), bucket, each.first_frame)
            else:
                skipped.append([name(number), "its latents are beyond what float16 holds"])

    with place.writing(shard_file(shard)) as temporary:
        file = ShardFile(temporary, schema_of(section.latents, section.embedding))
        try:
            waiting: list[tuple[int, Decoded]] = []
            for number in numbers:
                result = next(decoded)
                if result.pixels is None:
                    skipped.append([name(number), result.reason])
                else:
                    waiting.append((number, result))
                if waiting and (len(waiting) == encoder.clips or number == numbers[-1]):
                    add(waiting)
                    waiting = []
                advance(1)
        finally:
            file.close()
        record = Shard(shard, temporary.stat().st_size, sha256_file(temporary), file.bounds, skipped)
    if (size := place.size(record.file)) != record.bytes:
        raise UserError(f"{place.shown(record.file)}: has {size} bytes after writing, not {record.bytes}; try again")
    place.write_json(record_file(shard), asdict(record))
    return record


def _finish(place: Place, manifest: StoreManifest, plan: Plan) -> None:
    assert manifest.shards is not None
    skipped = [
        {"clip": clip, "reason": reason, "shard": shard.file}
        for shard in manifest.shards
        for clip, reason in shard.skipped
    ]
    if not any(shard.clips for shard in manifest.shards):
        first = skipped[0]["reason"] if skipped else "none given"
        raise UserError(f"none of the {len(skipped)} clips can be encoded, first {first}")
    if plan.to_do or plan.manifest.shards is None:
        place.write_json(REPORT, {"skipped": skipped})
        place.write_json(MANIFEST, manifest.to_json())
