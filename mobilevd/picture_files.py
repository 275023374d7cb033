"""Picture files as a viewer shows them: upright, opaque, 8 bits, sRGB."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from mobilevd.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM")
"""Formats of Pillow that are read. Others are left out on purpose: for EPS, Pillow starts another program."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
"""Suffixes of picture files in a folder."""
BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as on a page."""
MAX_PIXELS = 120_000_000
"""The largest picture, 360 MB of memory; a small file can claim to be of any size."""
FULL_SCALE = 65535  # of 16-bit samples


def open_picture(path: Path | str) -> Image.Image:
    """Read a picture as RGB of 8 bits; of an animation, its first frame.

    Turned as its EXIF orientation says, composited on white if it is transparent, scaled if it has 16 bits, converted to
    sRGB if it carries a colour profile.

    Raises UserError for a file that is missing, no picture, damaged, too large, or of floating point samples.
    """
    try:
        Image.init()  # Pillow knows the formats of its plugins only after this
        known = [name for name in FORMATS if name in Image.OPEN]  # AVIF is not in every build
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large picture, a broken EXIF: judged here
            with Image.open(path, formats=known) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise UserError(
                        f"{path}: {opened.width}x{opened.height} pixels; pictures of up to {MAX_PIXELS:,} are read"
                    )
                opened.load()
                return _srgb(_eight_bits(_upright(opened), path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture") from None
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(
            f"{path}: not a picture that can be read ({_told(path)}); give one of {', '.join(SUFFIXES)}"
        ) from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # damaged files raise whatever their decoder meets: struct.error, SyntaxError, ...
        raise UserError(f"{path}: not a picture that can be read ({error})") from None


def _told(path: Path | str) -> str:
    """What kind of file it is instead, by its first bytes."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        return "the file is empty"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "HEIC; convert it to JPEG first"
    if start.startswith(b"%!PS") or start.startswith(b"\xc5\xd0\xd3\xc6"):
        return "PostScript"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; run `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return "a page or a vector drawing"
    return "of no known format"


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # EXIF that cannot be parsed says nothing about the orientation
        return picture


def _eight_bits(picture: Image.Image, path: Path | str) -> Image.Image:
    """Samples of 16 bits scaled to 8; transparency composited; the mode is one of 8 bits without alpha."""
    mode, info = picture.mode, picture.info
    if mode.startswith("I"):  # I;16 in its byte orders; or I, 32 bits, which older files of 16 bits open as
        samples = np.asarray(picture).astype(np.int64)
        transparent = info.get("transparency")
        clear = samples == transparent if isinstance(transparent, int) else None
        low, high = samples.min(), samples.max()
        if low < 0 or high > FULL_SCALE:
            raise UserError(f"{path}: samples from {low} to {high}; 8 or 16 bits are read, convert it to one of them")
        grey = Image.fromarray(((samples * 255 + FULL_SCALE // 2) // FULL_SCALE).astype(np.uint8))
        if clear is None:
            return grey
        return _composited(grey.convert("RGB"), Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    if mode == "F":
        raise UserError(f"{path}: floating point samples, whose white is not known; convert it to 8 or 16 bits")
    if picture.has_transparency_data:
        straight = picture.convert("RGBA")
        rgb = straight.convert("RGB")
        rgb.info["icc_profile"] = info.get("icc_profile") if mode in ("RGB", "RGBA", "P") else None
        return _composited(_srgb(rgb), straight.getchannel("A"))
    if mode in ("RGB", "L", "CMYK"):
        return picture
    return picture.convert("RGB")


def _composited(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    page = Image.new("RGB", picture.size, BACKGROUND)
    page.paste(picture, mask=alpha)
    return page


def _srgb(picture: Image.Image) -> Image.Image:
    """RGB, through the picture's colour profile if it has one that fits."""
    profile = picture.info.get("icc_profile")
    if profile and picture.mode in ("RGB", "L", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that is broken, or of another colour space: viewers ignore it, too
    return picture.convert("RGB")
