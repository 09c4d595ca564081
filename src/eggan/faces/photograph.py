"""Open photographs of every common kind as upright 8-bit RGB, with what is needed to write them back."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from eggan.errors import EgganError

__all__ = ["MAX_PIXELS", "MIN_SIDE", "Photograph", "open_photograph", "to_photograph"]

MAX_PIXELS = 80_000_000
"""Of a photograph, decoded: 240 MB as RGB. 20,000 × 4,000 fits, 20,000 × 20,000 does not."""
MIN_SIDE = 16
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM")
"""Pillow's readers that are used; others (EPS runs Ghostscript, PDF is no picture) are not tried."""
DEEP_GREY = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Photograph:
    """A photograph in memory.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, upright.
        alpha: uint8 (H, W), or None where all is opaque.
        grey: whether it came without colour.
        profile: ICC profile of the RGB values; None is sRGB.
        notes: what was done on opening it that its owner may want to know, a phrase each.
        name: what to call it in messages.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    profile: bytes | None = None
    notes: tuple[str, ...] = ()
    name: str = "the picture"

    def picture(self, pixels: np.ndarray | None = None) -> Image.Image:
        """The photograph, or other pixels (H, W, 3) in its place, with its own alpha, greyness and profile.

        JPEG has no alpha: convert to RGB before saving as one.
        """
        picture = Image.fromarray(self.pixels if pixels is None else pixels)
        if self.grey:
            picture = picture.convert("L")
        if self.alpha is not None:
            picture.putalpha(Image.fromarray(self.alpha))
        if self.profile is not None:
            picture.info["icc_profile"] = self.profile
        return picture


def open_photograph(path: str | Path, max_pixels: int = MAX_PIXELS, file: BinaryIO | None = None) -> Photograph:
    """Read a photograph from a file of at most so many pixels.

    Args:
        path: the file, or where `file` is given what to call it.
        max_pixels: of a larger one nothing is decoded.
        file: an open one to read instead.

    Raises:
        EgganError: no such file, none that can be read as a picture, cut off, too small or too large.
    """
    try:
        with file or Path(path).open("rb") as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on size and on damaged metadata
            return to_photograph(Image.open(opened, formats=_formats()), str(path), max_pixels)
    except EgganError:
        raise
    except FileNotFoundError:
        lost = " (a link that leads nowhere)" if Path(path).is_symlink() else ""
        raise EgganError(f"There is no file {path}{lost}.") from None
    except IsADirectoryError:
        raise EgganError(f"{path} is a folder, not a photograph.") from None
    except PermissionError:
        raise EgganError(f"{path} may not be read: change its permissions.") from None
    except UnidentifiedImageError:
        raise EgganError(_unreadable(path, "not a picture of a known kind")) from None
    except Image.DecompressionBombError:
        raise EgganError(_too_large(str(path), max_pixels)) from None
    except Exception as error:  # readers raise nearly anything on a damaged file
        raise EgganError(_unreadable(path, getattr(error, "strerror", None) or "cut off or damaged")) from error


def to_photograph(image: Image.Image, name: str = "the picture", max_pixels: int = MAX_PIXELS) -> Photograph:
    """A Pillow picture, decoded or not yet, as a photograph.

    Turned upright by its EXIF orientation; palettes resolved; CMYK, Lab and YCbCr to RGB; 16 bits a channel to 8, and
    32-bit and floating greys by their range; of an animation the first frame.

    Raises:
        EgganError: it has too many pixels, less than `MIN_SIDE` on a side, or cannot be decoded.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise EgganError(_too_large(f"{name} ({width}×{height})", max_pixels))
    if min(width, height) < MIN_SIDE:
        raise EgganError(f"{name} is {width}×{height} pixels: give a photograph of at least {MIN_SIDE} on each side.")
    try:
        return _decoded(image, name)
    except EgganError:
        raise
    except Exception as error:  # readers raise nearly anything on a damaged file
        raise EgganError(_unreadable(name, "cut off or damaged")) from error


def _decoded(image: Image.Image, name: str) -> Photograph:
    notes = []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a phone's JPEG with a preview or depth map
        notes.append("the first frame of an animation")
        image.seek(0)
    if _is_deep(image):
        notes.append("8 of its 16 or more bits a channel")
    image.load()
    image, turned = _upright(image)
    if turned:
        notes.append("turned upright by its EXIF orientation")
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        notes.append(f"converted from {image.mode} to RGB")
    colour, alpha, grey = _split(image, name)
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "RGBX", "P", "PA") else None
    return Photograph(np.asarray(colour), alpha, grey, profile, tuple(notes), name)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has more than 8 bits a channel; Pillow reads 16-bit colours by their upper halves."""
    return image.mode in DEEP_GREY or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    try:
        turned = image.getexif().get(0x0112, 1) in range(2, 9)
        return (ImageOps.exif_transpose(image), True) if turned else (image, False)
    except Exception:  # damaged EXIF: the picture itself was read
        return image, False


def _split(image: Image.Image, name: str) -> tuple[Image.Image, np.ndarray | None, bool]:
    """RGB, alpha and whether it is grey."""
    if image.mode in DEEP_GREY:
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode, name)).convert("RGB"), None, True
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        *colour, opacity = image.convert("RGBA").split()
        alpha = np.asarray(opacity)
        return Image.merge("RGB", colour), None if alpha.min() == 255 else alpha, grey
    return _to_srgb(image), None, grey


def _to_srgb(image: Image.Image) -> Image.Image:
    """CMYK and Lab by their ICC profile where they have one; RGB and grey values as they stand."""
    if image.mode in ("CMYK", "LAB") and (profile := image.info.get("icc_profile")):
        try:
            source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # the profile is damaged or of another kind
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, mode: str, name: str) -> np.ndarray:
    """Greys of 16 bits, 32 bits or floats as uint8.

    White is 65535 for 16 bits; for 32 bits and floats 255 or 65535, for floats also 1, the least that holds them all.
    """
    most, least = values.max(), values.min()
    if not (np.isfinite(most) and least >= 0 and most <= 65535):
        raise EgganError(f"{name} has grey values outside 0..65535: save it with 8 or 16 bits.")
    whites = {"I": (255, 65535), "F": (1, 255, 65535)}.get(mode, (65535,))
    white = min(white for white in whites if most <= white)
    return (values.astype(np.float32) * (255 / white)).round().astype(np.uint8)


def _too_large(what: str, max_pixels: int) -> str:
    return f"{what} has more than {max_pixels // 1_000_000} million pixels: make it smaller first."


def _unreadable(what: str | Path, why: str) -> str:
    return f"{what} cannot be read ({why}): give a JPEG, PNG, WebP, TIFF or GIF file (export HEIC as JPEG first)."
