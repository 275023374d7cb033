"""Contact sheets and walls: the frames where they belong, and labels that can be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.samples import GAP, PAPER, clip_wall, contact_sheet, write_contact_sheet
from mobilevd.errors import UserError


def clips(count: int, frames: int = 4) -> list[np.ndarray]:
    # No pixel is as light as the paper, so that ink and frames can be told from it.
    return [np.random.default_rng(i).integers(0, 200, size=(frames, 16, 24, 3), dtype=np.uint8) for i in range(count)]


def find(sheet: np.ndarray, frame: np.ndarray, scale: int) -> list[tuple[int, int]]:
    """Top left corners at which the enlarged frame is seen, pixel for pixel."""
    large = frame.repeat(scale, 0).repeat(scale, 1)
    h, w, _ = large.shape
    corners = np.argwhere((sheet[: len(sheet) - h + 1, : sheet.shape[1] - w + 1] == large[0, 0]).all(-1))
    return [(y, x) for y, x in corners if np.array_equal(sheet[y : y + h, x : x + w], large)]


def test_frames_stand_in_rows_and_columns(tmp_path: Path) -> None:
    rows = clips(3)
    write_contact_sheet(tmp_path / "deep" / "sheet.png", rows, ["real", "base", "one step"], scale=2)
    with Image.open(tmp_path / "deep" / "sheet.png") as image:
        assert image.format == "PNG"
        sheet = np.asarray(image.convert("RGB"))
    places = [[find(sheet, frame, 2) for frame in clip] for clip in rows]
    assert all(len(place) == 1 for row in places for place in row)
    tops = [[place[0][0] for place in row] for row in places]
    lefts = [[place[0][1] for place in row] for row in places]
    assert all(len(set(row)) == 1 for row in tops) and tops[0] < tops[1] < tops[2]
    assert lefts[0] == lefts[1] == lefts[2] and np.diff(lefts[0]).tolist() == [24 * 2 + GAP] * 3


def ink(sheet: Image.Image, box: tuple[int, int, int, int]) -> int:
    return int((np.asarray(sheet.crop(box)) != PAPER).any(-1).sum())


def test_labels_and_frame_numbers_are_drawn_clear_of_the_frames() -> None:
    rows = clips(2)
    sheet = contact_sheet(rows, ["real", "generated: + adversarial finetuning"], scale=3)
    (top, left), (second, _) = (find(np.asarray(sheet), clip[0], 3)[0] for clip in rows)
    for t in range(4):
        assert ink(sheet, (left + t * (72 + GAP), 0, left + t * (72 + GAP) + 72, top)) > 10
    for row in (top, second):
        assert ink(sheet, (0, row, left - GAP, row + 48)) > 30
        assert ink(sheet, (left - GAP // 2, row, left, row + 48)) == 0  # no label runs into the frames
    assert sheet.width < 4 * (72 + GAP) + 200  # a long label is wrapped, not made a wide margin
    assert ink(sheet, (0, second + 16, left, second + 48)) > 0  # on its second line
    other = contact_sheet(rows, ["fake", "generated: + adversarial finetuning"], scale=3)
    assert np.asarray(other).tolist() != np.asarray(sheet).tolist()


def test_clips_of_different_length() -> None:
    rows = [clips(1, 2)[0], clips(2, 5)[1]]
    sheet = np.asarray(contact_sheet(rows, ["short", "long"], scale=1))
    assert all(len(find(sheet, frame, 1)) == 1 for clip in rows for frame in clip)


def test_bad_input() -> None:
    with pytest.raises(UserError, match="2 clips and 1 labels"):
        contact_sheet(clips(2), ["a"])
    with pytest.raises(UserError, match="at least one clip"):
        contact_sheet([], [])
    with pytest.raises(UserError, match="row 'b': frames of"):
        contact_sheet([clips(1)[0], clips(1)[0][:, :8]], ["a", "b"])
    with pytest.raises(UserError, match="row 'a': uint8"):
        contact_sheet([clips(1)[0] / 255], ["a"])


def test_a_wall_plays_all_clips_under_their_labels() -> None:
    real, made = np.stack(clips(2)), np.stack(clips(4)[2:])
    wall = clip_wall([("real", real), ("+ adversarial finetuning", made)], width=90)
    height, width = 16 * 4, 24 * 4  # enlarged to 90 pixels at least, by a whole factor
    caption = wall.shape[1] - 2 * height
    assert wall.shape == (4, caption + 2 * height, 2 * width, 3) and caption > 0
    for t in range(4):
        for column, group in enumerate((real, made)):
            for row in range(2):
                assert (caption + row * height, column * width) in find(wall[t], group[row, t], 4)
    strips = [Image.fromarray(wall[t, :caption]) for t in range(4)]
    assert all(np.array_equal(np.asarray(strip), np.asarray(strips[0])) for strip in strips)
    left, right = ink(strips[0], (0, 0, width, caption)), ink(strips[0], (width, 0, 2 * width, caption))
    assert 50 < left < right  # the longer label, in two lines, and nothing over the edges of its column
    assert not ink(strips[0], (width, 0, width + GAP, caption)) and not ink(strips[0], (0, 0, GAP, caption))
    one_line = clip_wall([("real", real), ("base", made)], width=90)
    assert one_line.shape[1] < wall.shape[1]


def test_a_wall_is_of_even_sides_and_of_clips_of_one_shape() -> None:
    odd = np.stack([np.zeros((3, 15, 23, 3), np.uint8)])
    assert [side % 2 for side in clip_wall([("a", odd)], width=1).shape[1:3]] == [0, 0]
    with pytest.raises(UserError, match="clips of one shape"):
        clip_wall([("a", odd), ("b", odd[:, :2])])
    with pytest.raises(UserError, match="clips of one shape"):
        clip_wall([])
