"""The training clips of all stages, encoded ahead of training (`mobilevd cache`)."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import PartialState

from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.latents import store_place, training_clips, training_latents, write_settings
from mobilevd.pipeline.rows import Entry
from training.data.clips import ClipIndex
from training.data.store.plan import bytes_to_write, find_plan
from training.data.store.together import Team


def encode_stages(
    config: RunConfig,
    stages: Sequence[Entry],
    clips: ClipIndex,
    codec: Codec,
    display: Display,
    processes: PartialState,
) -> None:
    """Say what there is to encode for these stages, encode it, and check what was encoded before. All processes call this.

    Raises UserError before the first clip if the disk has not enough room for all.
    """
    wanted: dict[str, list[Entry]] = {}
    for entry in stages:
        wanted.setdefault(store_place(config, entry).shown(), []).append(entry)
    Team(processes).first(lambda: _announce(config, list(wanted.values()), clips, codec, display))
    for place, entries in wanted.items():
        training_latents(config, clips, codec, entries[0], display, processes, verify=True)
        display.line(f"  encoded clips: {place}")


def _announce(
    config: RunConfig, wanted: Sequence[Sequence[Entry]], clips: ClipIndex, codec: Codec, display: Display
) -> None:
    needed = 0
    for entries in wanted:
        entry = entries[0]
        chosen, place = training_clips(config, clips, entry), store_place(config, entry)
        to_write = bytes_to_write(find_plan(place, chosen, codec, write_settings(config)), chosen, codec)
        needed += to_write
        state = f"about {to_write / 1e9:.2f} GB to write" if to_write else "encoded already, is checked"
        sizes = ", ".join(f"{group.height}x{group.width}" for group in chosen.groups)
        size = f"{len(chosen)} clips of {chosen.num_frames} frames at {sizes}"
        display.line(f"  {', '.join(each.name for each in entries)}: {size}; {state}")
        free = place.free_bytes()
        if free is not None and needed > free:
            raise UserError(
                f"{place.shown()}: all clips take about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; "
                "free some space, give another data.cache, or a smaller training.latent_clips"
            )
