"""Similarity transforms in the plane, and resampling a picture through one without aliasing.

Coordinates are continuous: pixel (column i, row j) covers [i, i + 1) × [j, j + 1), so its centre is (i + ½, j + ½).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

__all__ = ["Point", "Rectangle", "Similarity", "resample", "similarity", "warp_values"]

Point = tuple[float, float]
MEAN = (1 / 3, 1 / 3, 1 / 3, 0)
AFFINE, BICUBIC = Image.Transform.AFFINE, Image.Resampling.BICUBIC


class Rectangle(NamedTuple):
    """Whole pixels of a picture: columns left..right and rows top..bottom, the last ones excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def clipped(self, width: int, height: int) -> Rectangle:
        """The part inside a picture of this size; empty where right ≤ left or bottom ≤ top."""
        return Rectangle(max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height))


class Similarity(NamedTuple):
    """z → a z + b on points read as complex numbers x + i y: a rotation and scale by a, then a shift by b."""

    a: complex
    b: complex

    @property
    def scale(self) -> float:
        """Length of the image of a unit length."""
        return abs(self.a)

    def apply(self, point: Point) -> Point:
        """Where a point goes."""
        z = self.a * complex(*point) + self.b
        return z.real, z.imag

    def inverse(self) -> Similarity:
        """The way back: z → (z - b) / a."""
        return Similarity(1 / self.a, -self.b / self.a)

    def bounds(self, width: float, height: float, margin: float = 0.0) -> Rectangle:
        """Smallest rectangle that holds the image of [0, width] × [0, height] and a margin around it."""
        corners = [self.apply(corner) for corner in ((0, 0), (width, 0), (0, height), (width, height))]
        (left, right), (top, bottom) = ((min(axis), max(axis)) for axis in zip(*corners, strict=True))
        return Rectangle(
            math.floor(left - margin), math.floor(top - margin), math.ceil(right + margin), math.ceil(bottom + margin)
        )


def similarity(source: tuple[Point, Point], target: tuple[Point, Point]) -> Similarity:
    """The one similarity that takes two points to two points, in closed form.

    With p, q for the source and P, Q for the target as complex numbers: a = (Q - P) / (q - p), b = P - a p.

    Raises:
        ZeroDivisionError: the two source points coincide.
    """
    (p, q), (P, Q) = ([complex(*point) for point in pair] for pair in (source, target))
    a = (Q - P) / (q - p)
    return Similarity(a, P - a * p)


def resample(
    pixels: np.ndarray, transform: Similarity, size: int, *, finest: int = 4, grey: bool = False
) -> np.ndarray:
    """A square cut out of a picture.

    Where the cut shrinks the picture it is low-passed: whole blocks of pixels are averaged until at most `finest` of
    them lie on one pixel of the cut, the turned cut is taken on that finer grid (bicubic), and then reduced by a
    bicubic filter as wide as the shrinking asks for. Beyond the picture's border its outermost pixels are repeated.

    Args:
        pixels: uint8 (H, W, 3).
        transform: from the picture's coordinates to those of the cut.
        size: side S of the cut in pixels.
        finest: how much finer the grid may be along a side; 1 is fast and a little soft, 4 keeps all detail.
        grey: give the mean of the three channels, in a third of the time.

    Returns:
        uint8 (S, S, 3), or (S, S) where `grey` is set.
    """
    height, width = pixels.shape[:2]
    shrink = 1 / transform.scale
    block = max(1, math.ceil(shrink / finest))
    finer = max(1, math.ceil(shrink / block))
    back = transform.inverse()
    bounds = back.bounds(size, size, margin=3 * block)
    inside = _nonempty(bounds, width, height)
    part = Image.fromarray(pixels[inside.top : inside.bottom, inside.left : inside.right])
    part = _repeat_edges(part.reduce(block) if block > 1 else part, bounds, inside, block)
    # From the finer cut to the blocks of the padded part: a z / finer, then the part's own origin and scale.
    origin = complex(
        inside.left - block * _blocks(inside.left - bounds.left, block),
        inside.top - block * _blocks(inside.top - bounds.top, block),
    )
    there = _coefficients(Similarity(back.a / finer / block, (back.b - origin) / block))
    planes = []
    for plane in (part.convert("L", MEAN),) if grey else part.split():
        # as floats, because of bytes Pillow cuts the fractions off
        plane = plane.convert("F").transform((size * finer, size * finer), AFFINE, there, BICUBIC)
        plane = plane.resize((size, size), BICUBIC) if finer > 1 else plane
        planes.append(np.asarray(plane).round().clip(0, 255).astype(np.uint8))
    return planes[0] if grey else np.stack(planes, axis=-1)


def warp_values(values: np.ndarray, transform: Similarity, window: Rectangle) -> np.ndarray:
    """Values given on a square, seen through a window of the picture that the square was cut from.

    Args:
        values: float32 (S, S, C).
        transform: from the picture's coordinates to those of the square.
        window: h rows and w columns of the picture.

    Returns:
        float32 (h, w, C), bicubic, low-passed where the square is finer than the picture; 0 outside the square.
    """
    side = len(values)
    coarse = min(side, max(1, round(side / transform.scale)))
    step = coarse / side
    offset = complex(window.left, window.top)
    there = Similarity(transform.a * step, (transform.a * offset + transform.b) * step)
    shape = (window.right - window.left, window.bottom - window.top)
    channels = []
    for channel in np.moveaxis(values.astype(np.float32), -1, 0):
        plane = Image.fromarray(np.ascontiguousarray(channel))
        if coarse < side:
            plane = plane.resize((coarse, coarse), BICUBIC)
        plane = plane.transform(shape, AFFINE, _coefficients(there), BICUBIC)
        channels.append(np.asarray(plane))
    return np.stack(channels, axis=-1)


def _coefficients(transform: Similarity) -> tuple[float, float, float, float, float, float]:
    """Pillow's six numbers: where in the input an output pixel lies."""
    a, b = transform
    return a.real, -a.imag, b.real, a.imag, a.real, b.imag


def _nonempty(bounds: Rectangle, width: int, height: int) -> Rectangle:
    """The part of the bounds inside the picture, or the nearest pixel where there is none."""
    left, top = min(max(bounds.left, 0), width - 1), min(max(bounds.top, 0), height - 1)
    right, bottom = min(max(bounds.right, left + 1), width), min(max(bounds.bottom, top + 1), height)
    return Rectangle(left, top, right, bottom)


def _blocks(length: int, block: int) -> int:
    """How many whole blocks cover a length."""
    return -(-max(length, 0) // block)


def _repeat_edges(part: Image.Image, bounds: Rectangle, inside: Rectangle, block: int) -> Image.Image:
    """The reduced part with its outermost pixels repeated where the bounds leave the picture."""
    rows = (_blocks(inside.top - bounds.top, block), _blocks(bounds.bottom - inside.bottom, block))
    columns = (_blocks(inside.left - bounds.left, block), _blocks(bounds.right - inside.right, block))
    if not any((*rows, *columns)):
        return part
    return Image.fromarray(np.pad(np.asarray(part), (rows, columns, (0, 0)), mode="edge"))
