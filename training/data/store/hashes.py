"""The checksums of a store's shards, compared with what is there."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from mobilevd.errors import UserError
from training.data.store.manifest import Shard
from training.data.store.place import Place
from training.data.store.plan import Plan
from training.data.store.together import Team

PIECE_BYTES = 16 << 20


def verify_shards(place: Place, plan: Plan, team: Team) -> Plan:
    """The plan without the finished shards that are not as they were written; every process reads its share."""
    mine = plan.finished[team.processes.process_index :: team.processes.num_processes]
    bad: list[int] = []
    with team.working():
        for shard in mine:
            if sha256_at(place, shard) != shard.sha256:
                bad.append(shard.number)
            team.check()
    bad = sorted(team.gather(bad))
    lines = [
        f"{place.shown(shard.file)}: its checksum is wrong; it is made again"
        for shard in plan.finished
        if shard.number in bad
    ]
    finished = [shard for shard in plan.finished if shard.number not in bad]
    return replace(plan, finished=finished, lines=[*plan.lines, *lines])


def sha256_at(place: Place, shard: Shard) -> str:
    """Hex SHA-256 of a shard's file. UserError if it cannot be read."""
    digest = hashlib.sha256()
    for begin in range(0, shard.bytes, PIECE_BYTES):
        try:
            digest.update(place.read(shard.file, begin, min(begin + PIECE_BYTES, shard.bytes)))
        except Exception as error:  # every client of object storage has exceptions of its own
            raise UserError(f"{place.shown(shard.file)}: cannot be read: {error}") from None
    return digest.hexdigest()
