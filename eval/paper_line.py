"""The sentence about a figure that a paper can print: what was measured, on what, and what differs from the protocol."""

from __future__ import annotations

from collections.abc import Sequence

from eval.protocol_settings import ProtocolSettings
from mobilevd import __version__


def paper_line(
    settings: ProtocolSettings,
    value: float,
    *,
    generated: int,
    real: int,
    form: tuple[int, int, int],
    fps: float | None,
    departures: Sequence[str] = (),
) -> str:
    """The protocol's line with its places filled; departures follow, so that the line never claims more than was done."""
    frames, height, width = form
    line = settings.paper_line.format(
        value=f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}",
        generated=generated,
        real=real,
        frames=frames,
        rate=f"{fps:g} frames per second" if fps is not None else "rate not recorded",
        size=f"{width}x{height}",
        version=__version__,
    )
    if departures:
        line += f" Not the protocol's: {'; '.join(departures)}."
    return " ".join(line.split())
