"""Photographs without labels, for trainings that show what photographs have and renders lack."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from eggan.action_units import MAX_INTENSITY
from eggan.data.batches import Photographs
from eggan.data.by_file import pictures_in
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.faces import align, detect, open_photograph, select
from eggan.pixels import to_floats
from eggan.progress import track

__all__ = ["aligned_crops", "photographs"]


def photographs(folder: Path, size: int, *, read: bool) -> Photographs:
    """The `aligned_crops` of a folder and, if they are to be read, their AUs by the built-in estimator.

    Raises:
        EgganError: as `aligned_crops`.
    """
    crops = aligned_crops(folder, size)
    u = ActionUnitEstimator.from_pretrained().read(to_floats(crops)) / MAX_INTENSITY if read else None
    return Photographs(crops, u)


def aligned_crops(folder: Path, size: int) -> Tensor:
    """The largest face of every picture in a folder in which one can be aligned, uint8 (N, 3, size, size).

    Raises:
        EgganError: there is no such folder, or no face in it can be aligned.
    """
    crops = []
    for path in track(pictures_in(folder), f"aligning {folder}"):
        try:
            pixels = open_photograph(path).pixels
            (face,) = select(detect(pixels), "largest", str(path))
        except EgganError:
            continue
        crops.append(torch.from_numpy(align(pixels, face, size)).permute(2, 0, 1))
    if not crops:
        raise EgganError(f"No face could be aligned in any file of {folder}: give a folder of photographs.")
    return torch.stack(crops)
