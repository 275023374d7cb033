"""Clips side by side, under their names: as a contact sheet, frame by frame, and as a wall that plays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.clips import check_clips
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_bytes

GAP = 4  # pixels between frames
FONT_SIZE = 16
INK, PAPER = (24, 24, 24), (255, 255, 255)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _wrap(text: str, font: Font, width: float) -> str:
    """Break text between words so that no line is wider than `width`; a longer word gets a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def contact_sheet(rows: Sequence[np.ndarray], labels: Sequence[str], scale: int = 3) -> Image.Image:
    """A sheet with one row per clip, uint8 (T, H, W, 3): its label, then its numbered frames, `scale` times as large.

    Clips may differ in length, but not in frame size. Raises UserError for other sizes, no clips, or missing labels.
    """
    if not rows or len(rows) != len(labels):
        raise UserError(
            f"contact sheet: {len(rows)} clips and {len(labels)} labels; one label per clip, at least one clip"
        )
    for clip, label in zip(rows, labels, strict=True):
        check_clips(clip[None], what=f"contact sheet row {label!r}")
        if clip.shape[1:] != rows[0].shape[1:]:
            raise UserError(f"contact sheet row {label!r}: frames of {clip.shape[1:3]}, others {rows[0].shape[1:3]}")
    font = ImageFont.load_default(size=FONT_SIZE)  # Pillow's own: the sheet looks the same on every machine
    h, w = rows[0].shape[1] * scale, rows[0].shape[2] * scale
    longest = max(font.getlength(word) for label in labels for word in (label.split() or [""]))
    margin = int(max(longest, min(160, max(font.getlength(label) for label in labels)))) + 2 * GAP
    texts = [_wrap(label, font, margin - 2 * GAP) for label in labels]
    line = FONT_SIZE + GAP
    row_height = max(h, line * max(text.count("\n") + 1 for text in texts)) + GAP
    count = max(len(clip) for clip in rows)
    sheet = Image.new("RGB", (margin + count * (w + GAP), line + GAP + len(rows) * row_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for t in range(count):
        draw.text((margin + t * (w + GAP) + w / 2, GAP / 2), str(t), fill=INK, font=font, anchor="ma")
    for i, (clip, text) in enumerate(zip(rows, texts, strict=True)):
        top = line + GAP + i * row_height
        draw.multiline_text((GAP, top), text, fill=INK, font=font, spacing=GAP)
        for t, frame in enumerate(clip):
            # Nearest neighbour shows the pixels as they were made, without smoothing.
            large = Image.fromarray(frame).resize((w, h), Image.Resampling.NEAREST)
            sheet.paste(large, (margin + t * (w + GAP), top))
    return sheet


def write_contact_sheet(path: Path | str, rows: Sequence[np.ndarray], labels: Sequence[str], scale: int = 3) -> None:
    """Write `contact_sheet` as a PNG file."""
    buffer = io.BytesIO()
    contact_sheet(rows, labels, scale).save(buffer, format="PNG", optimize=True)
    atomic_write_bytes(path, buffer.getvalue())


def clip_wall(columns: Sequence[tuple[str, np.ndarray]], width: int = 256) -> np.ndarray:
    """One clip of all clips: a column under each label, in which the clips stand below one another.

    Args:
        columns: labels with clips, uint8 (N, T, H, W, 3), all of one shape.
        width: pixels that smaller clips are enlarged to, at least, by a whole factor.

    Returns uint8 (T, caption + N * H', columns * W', 3) with even sides, as video has them; the labels are in a strip above
    the pictures, not over them. Raises UserError for no clips, and for clips of other shapes.
    """
    if not columns or any(clips.shape != columns[0][1].shape for _, clips in columns):
        raise UserError(f"clip wall: clips of one shape are needed, not {[clips.shape for _, clips in columns]}")
    for label, clips in columns:
        check_clips(clips, what=f"clip wall column {label!r}")
    scale = -(-width // columns[0][1].shape[3])
    large = [clips.repeat(scale, axis=2).repeat(scale, axis=3) for _, clips in columns]
    pictures = np.concatenate([np.concatenate(list(clips), axis=1) for clips in large], axis=2)
    caption = _caption([label for label, _ in columns], large[0].shape[3])
    wall = np.concatenate([np.broadcast_to(caption, (len(pictures), *caption.shape)), pictures], axis=1)
    return np.pad(wall, [(0, 0), *((0, side % 2) for side in wall.shape[1:3]), (0, 0)], mode="edge")


def _caption(labels: Sequence[str], width: int) -> np.ndarray:
    """A strip of paper, uint8 (h, columns * width, 3), with the labels in the middle of their columns, wrapped."""
    font = ImageFont.load_default(size=FONT_SIZE)
    texts = [_wrap(label, font, width - 2 * GAP) for label in labels]
    height = 2 * GAP + (FONT_SIZE + GAP) * max(text.count("\n") + 1 for text in texts)
    strip = Image.new("RGB", (width * len(labels), height + height % 2), PAPER)
    draw = ImageDraw.Draw(strip)
    for i, text in enumerate(texts):
        place = (width * (i + 0.5), GAP)
        draw.multiline_text(place, text, fill=INK, font=font, spacing=GAP, anchor="ma", align="center")
    return np.asarray(strip)
