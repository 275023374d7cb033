"""Picture files as people have them: turned, transparent, of 16 bits, of other colours; and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from mobilevd import picture_files
from mobilevd.errors import UserError
from mobilevd.picture_files import open_picture
from mobilevd.pixels import read_picture

# EXIF 2.32, tag 274: where the 0th row and the 0th column of the stored picture lie -> the shown one from the stored
SHOWN = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


def corners() -> np.ndarray:
    """(32, 64, 3): a colour in each quarter."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32], picture[:16, 32:], picture[16:, :32] = (220, 30, 30), (30, 200, 30), (30, 30, 220)
    return picture


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_pictures_are_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {} if suffix == "tif" else {"quality": 95}
    Image.fromarray(corners()).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    shown = np.asarray(open_picture(tmp_path / f"a.{suffix}")).astype(int)
    expected = SHOWN[orientation](corners()).astype(int)
    assert shown.shape == expected.shape and np.abs(shown - expected).mean() < 4


def test_broken_exif_says_nothing(tmp_path: Path) -> None:
    for number, exif in enumerate((b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40)):
        Image.fromarray(corners()).save(tmp_path / f"{number}.jpg", exif=exif, quality=95)
        assert open_picture(tmp_path / f"{number}.jpg").size == (64, 32)


def test_transparent_pictures_lie_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([corners(), np.full((32, 64), 255, np.uint8)])
    rgba[:, :16, 3], rgba[:, 16:32, 3] = 0, 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = np.round(rgba[..., :3] * (rgba[..., 3:] / 255) + 255 * (1 - rgba[..., 3:] / 255))
    assert np.abs(np.asarray(open_picture(tmp_path / "a.png")) - expected).max() <= 1
    Image.fromarray(rgba).save(tmp_path / "a.webp", lossless=True, exact=True)
    assert np.abs(np.asarray(open_picture(tmp_path / "a.webp")) - expected).max() <= 1
    Image.fromarray(rgba[..., 2:]).save(tmp_path / "grey.png")  # LA
    assert np.asarray(open_picture(tmp_path / "grey.png"))[0, 0].tolist() == [255] * 3
    palette = Image.fromarray(corners()).quantize(4)
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    shown = np.asarray(open_picture(tmp_path / "p.png"))
    assert shown[0, 0].tolist() == [255] * 3 and shown[0, -1].tolist() == [30, 200, 30]
    palette.save(tmp_path / "p.gif", transparency=palette.getpixel((0, 0)))
    assert np.asarray(open_picture(tmp_path / "p.gif"))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(32, 0)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    shown = np.asarray(open_picture(tmp_path / f"a.{suffix}")).astype(int)
    assert np.abs(shown - np.round(ramp / 257)[..., None]).max() == 0


def test_sixteen_bits_of_either_byte_order_and_of_three_channels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(">u2")[None].repeat(32, 0)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    Image.frombytes("I;16B", (64, 32), ramp.tobytes()).save(tmp_path / "a.tif", tiffinfo=tags)
    assert np.abs(np.asarray(open_picture(tmp_path / "a.tif"))[0, :, 0] - np.round(ramp[0] / 257)).max() == 0
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in ramp)
    (tmp_path / "rgb.png").write_bytes(png(64, 32, bits=16, colour=2, rows=rows))
    assert np.abs(np.asarray(open_picture(tmp_path / "rgb.png"))[0, :, 1] - ramp[0] / 257).max() <= 1


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_other_modes(tmp_path: Path) -> None:
    grey = Image.fromarray(corners()[..., 0])
    for name, picture in {"grey.png": grey, "bits.png": grey.convert("1"), "cmyk.jpg": grey.convert("CMYK")}.items():
        picture.save(tmp_path / name)
        shown = open_picture(tmp_path / name)
        assert shown.mode == "RGB" and shown.size == (64, 32)
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert np.asarray(open_picture(tmp_path / name)).mean() < 20, "the first frame of an animation"


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    """sRGB's changes nothing, a broken one is ignored, one with red and green exchanged exchanges them."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(corners()).save(tmp_path / "same.png", icc_profile=srgb)
    assert np.abs(np.asarray(open_picture(tmp_path / "same.png")).astype(int) - corners()).max() <= 1
    Image.fromarray(corners()).save(tmp_path / "broken.png", icc_profile=b"nonsense")
    assert (np.asarray(open_picture(tmp_path / "broken.png")) == corners()).all()
    other = bytearray(srgb)  # red's column and green's exchanged: the colours must be, too
    red, green = other.index(b"rXYZ"), other.index(b"gXYZ")
    other[red : red + 4], other[green : green + 4] = b"gXYZ", b"rXYZ"
    Image.fromarray(corners()).save(tmp_path / "other.png", icc_profile=bytes(other))
    swapped = np.asarray(open_picture(tmp_path / "other.png")).astype(int)
    assert np.abs(swapped - corners()[..., [1, 0, 2]]).mean() < 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "the file is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 99, "HEIC; convert it to JPEG first"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a page or a vector drawing"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not a picture that can be read"),
    ],
)
def test_what_is_no_picture_is_one_line(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=text) as error:
        open_picture(tmp_path / "a.png")
    assert "a.png" in str(error.value) and len(str(error.value).splitlines()) == 1


def test_cut_off_and_huge_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "jpeg")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(UserError, match="cut.jpg: not a picture that can be read .*truncated"):
        open_picture(tmp_path / "cut.jpg")
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, 8, 2, b""))
    with pytest.raises(UserError, match="bomb.png: .*pixels"):
        open_picture(tmp_path / "bomb.png")
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 1000)
    (tmp_path / "large.png").write_bytes(png(64, 32, 8, 0, b"\0" * 65 * 32))
    with pytest.raises(UserError, match="64x32 pixels; pictures of up to 1,000"):
        open_picture(tmp_path / "large.png")
    for place, text in ((tmp_path / "none.png", "no such picture"), (tmp_path, "not a picture")):
        with pytest.raises(UserError, match=text):
            open_picture(place)
    with pytest.raises(UserError, match="floating point samples"):
        Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "f.tif")
        open_picture(tmp_path / "f.tif")


def test_a_turned_picture_is_cropped_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(SHOWN[8](corners())).save(tmp_path / "a.png", exif=exif)
    assert (
        np.abs((read_picture(tmp_path / "a.png", 32, 64)[0].permute(1, 2, 0).numpy() + 1) * 127.5 - corners()).max() < 1
    )
