"""Put an edited crop back into its photograph, at the photograph's resolution and without a seam."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from eggan.errors import EgganError
from eggan.faces.alignment import align, crop_transform
from eggan.faces.detection import Face
from eggan.faces.warp import Rectangle, Similarity, warp_values

__all__ = ["FEATHER", "feather_weight", "put_back"]

FEATHER = 0.15
"""Width of the soft border, as part of the half side of the crop."""
MIN_CROP = 16
BAND = 512
"""Rows of the photograph that are worked on at a time."""
STALE = (4, 36)
"""Change of a crop's pixel, of 255, above which the photograph's finer detail fades, and at which it is gone."""


def put_back(pixels: np.ndarray, edited: np.ndarray, face: Face, original: np.ndarray | None = None) -> np.ndarray:
    """The photograph with an edited crop of one of its faces; for several faces call it once for each.

    With the original crop, what the edit changed is added to the photograph:

        photo + w · (W(edited - original) - m · (photo - W(original)) - c)

    w is the feathered weight, W the inverse warp and c a colour constant. So the photograph keeps detail finer than the
    crop, and a crop that was not edited changes nothing. But where a mouth opened, the lips' old detail is wrong: m in
    0..1 takes it away where the crop changed much. Without the original the crop replaces the face, detail and all:
    photo + w · (W(edited) - photo - c). In both, c is the median of the crop's change along the feather, one number a
    channel: it matches the colours at the seam.

    Args:
        pixels: the photograph, uint8 (H, W, 3); it is not changed.
        edited: uint8 (S, S, 3), any S: the crop `align(pixels, face, S)` after an edit.
        face: the one that was aligned.
        original: uint8 (S, S, 3): the crop before the edit.

    Returns:
        uint8 (H, W, 3). Where the weight is 0 its bytes are the photograph's.

    Raises:
        EgganError: the crops are not square uint8 pictures of one size.
    """
    _check_crops(edited, original)
    size = len(edited)
    to_crop = crop_transform(face, size)
    height, width = pixels.shape[:2]
    window = to_crop.inverse().bounds(size, size).clipped(width, height)
    layers = _layers(edited, original, align(pixels, face, size) if original is None else original)
    result = pixels.copy()
    for top in range(window.top, window.bottom, BAND):
        band = window._replace(top=top, bottom=min(top + BAND, window.bottom))
        part = slice(band.top, band.bottom), slice(band.left, band.right)
        warped, photo = warp_values(layers, to_crop, band), pixels[part].astype(np.float32)
        change = warped[..., :3] - warped[..., 6:].clip(0, 1) * (photo - warped[..., 3:6])
        change *= feather_weight(to_crop, size, band)[..., None]
        result[part] = (photo + change).round().clip(0, 255).astype(np.uint8)
    return result


def _layers(edited: np.ndarray, original: np.ndarray | None, before: np.ndarray) -> np.ndarray:
    """What is warped, float32 (S, S, 7): the change less c, the crop before it, and m (1 everywhere to replace)."""
    change = edited.astype(np.float32) - before
    size = len(edited)
    weight = feather_weight(Similarity(1, 0), size, Rectangle(0, 0, size, size))
    change -= np.median(change[(weight > 0) & (weight < 1)], axis=0)
    stale = np.ones((size, size, 1), np.float32) if original is None else _stale(change)
    return np.concatenate([change, before.astype(np.float32), stale], axis=2)


def _stale(change: np.ndarray) -> np.ndarray:
    """The m of `put_back`, float32 (S, S, 1) in 0..1, of a crop's change (S, S, 3)."""
    amount = Image.fromarray(np.abs(change).max(axis=2).clip(0, 255).astype(np.uint8))
    blurred = np.asarray(amount.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None]
    return ((blurred - STALE[0]) / (STALE[1] - STALE[0])).clip(0, 1)


def feather_weight(to_crop: Similarity, size: int, window: Rectangle) -> np.ndarray:
    """How much of the crop each pixel of a window of the photograph takes.

    With (x, y) the pixel's place in the crop, -1..1 from side to side: r = (x⁴ + y⁴)^¼, and the weight rises smoothly
    (3t² - 2t³) from 0 at r = 1 to 1 at r = 1 - FEATHER.

    Returns:
        float32 (h, w) in 0..1.
    """
    x = np.arange(window.left, window.right, dtype=np.float32)[None] + 0.5
    y = np.arange(window.top, window.bottom, dtype=np.float32)[:, None] + 0.5
    a, b = (2 / size * number for number in to_crop)
    across = a.real * x - a.imag * y + (b.real - 1)
    down = a.imag * x + a.real * y + (b.imag - 1)
    across *= across
    down *= down
    r = np.sqrt(np.sqrt(across * across + down * down))
    t = ((1 - r) / FEATHER).clip(0, 1)
    return t * t * (3 - 2 * t)


def _check_crops(edited: np.ndarray, original: np.ndarray | None) -> None:
    for crop in (edited,) if original is None else (edited, original):
        if crop.dtype != np.uint8 or crop.shape != (len(edited), len(edited), 3) or len(edited) < MIN_CROP:
            raise EgganError(
                f"A crop to put back is square, uint8 (S, S, 3) with S from {MIN_CROP}, not {crop.dtype} {crop.shape}."
            )
