"""The training clips of all stages, encoded ahead of training (`mobilevd cache`)."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import PartialState

from mobilevd.codecs.base import Codec
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline.data import store_place, training_clips, training_latents, write_settings
from mobilevd.pipeline.display import Display
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
    wanted: dict[tuple[int, int, int | None], list[str]] = {}
    for entry in stages:
        assert entry.stage is not None
        size = entry.height, entry.width, entry.stage.training.latent_clips
        wanted.setdefault(size, []).append(entry.name)
    Team(processes).first(lambda: _announce(config, wanted, clips, codec, display))
    for height, width, limit in wanted:
        training_latents(config, clips, codec, height, width, limit, display, processes, verify=True)
        display.line(f"  encoded clips: {store_place(config, height, width, limit).shown()}")


def _announce(
    config: RunConfig,
    wanted: dict[tuple[int, int, int | None], list[str]],
    clips: ClipIndex,
    codec: Codec,
    display: Display,
) -> None:
    needed = 0
    for (height, width, limit), names in wanted.items():
        chosen, place = training_clips(config, clips, height, width, limit), store_place(config, height, width, limit)
        to_write = bytes_to_write(find_plan(place, chosen, codec, write_settings(config)), chosen, codec)
        needed += to_write
        state = f"about {to_write / 1e9:.2f} GB to write" if to_write else "encoded already, is checked"
        size = f"{len(chosen)} clips of {chosen.num_frames} frames at {height}x{width}"
        display.line(f"  {', '.join(names)}: {size}; {state}")
        free = place.free_bytes()
        if free is not None and needed > free:
            raise UserError(
                f"{place.shown()}: all clips take about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; "
                "free some space, give another data.cache, or a smaller training.latent_clips"
            )
