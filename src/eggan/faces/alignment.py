"""Cut the aligned crop of a face: both eyes on the eye line of facsynth, by a similarity transform."""

from __future__ import annotations

import numpy as np

from eggan.faces.detection import Face
from eggan.faces.warp import Similarity, resample, similarity

__all__ = ["EYE_LINE", "align", "crop_transform", "native_size"]

EYE_LINE = ((44.7 / 128, 50.5 / 128), (83.4 / 128, 50.5 / 128))
"""Where the centres of the right and the left eye lie in a crop, as parts of its side."""


def crop_transform(face: Face, size: int) -> Similarity:
    """From the photograph's coordinates to those of the face's crop of this side in pixels."""
    right, left = ((x * size, y * size) for x, y in EYE_LINE)
    return similarity(face.eyes, (right, left))


def native_size(face: Face) -> int:
    """Side in pixels of the crop whose pixels are as large as the photograph's."""
    (right, _), (left, _) = EYE_LINE
    return max(1, round(face.eye_distance / (left - right)))


def align(pixels: np.ndarray, face: Face, size: int = 128) -> np.ndarray:
    """The face, upright and framed as facsynth frames it.

    Low-passed where the crop shrinks the photograph (`eggan.faces.warp.resample`); where the crop reaches beyond the
    photograph its outermost pixels are repeated.

    Args:
        pixels: the photograph, uint8 (H, W, 3).
        face: one that `detect` found in it.
        size: side S of the crop in pixels; `native_size` keeps all of the photograph's detail.

    Returns:
        uint8 (S, S, 3).
    """
    return resample(pixels, crop_transform(face, size), size)
