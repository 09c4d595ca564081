"""Photographs without labels, for trainings that show what photographs have and renders lack."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eggan import __version__
from eggan.data.by_file import pictures_in
from eggan.data.places import file_state
from eggan.errors import EgganError
from eggan.faces import align, detect, open_photograph, select
from eggan.files import write_atomically
from eggan.progress import track

__all__ = ["aligned_crops"]


def aligned_crops(folder: Path, size: int, cache: Path) -> Tensor:
    """The largest face of every picture in a folder in which one can be aligned, uint8 (N, 3, size, size).

    Args:
        folder: of photographs.
        size: side of the crops in pixels.
        cache: folder of `photographs-HASH.npy` files: what was aligned once is taken from there.

    Raises:
        EgganError: there is no such folder, or no face in it can be aligned.
    """
    paths = pictures_in(folder)
    facts = [__version__, str(size), *(f"{path} {file_state(path)}" for path in paths)]
    kept = cache / f"photographs-{hashlib.sha256(ascii(facts).encode()).hexdigest()[:16]}.npy"
    if not kept.is_file():
        crops = []
        for path in track(paths, f"aligning {folder}"):
            try:
                pixels = open_photograph(path).pixels
                (face,) = select(detect(pixels), "largest", str(path))
            except EgganError:
                continue
            crops.append(align(pixels, face, size).transpose(2, 0, 1))
        if not crops:
            raise EgganError(f"No face could be aligned in any file of {folder}: give a folder of photographs.")
        write_atomically(kept, lambda beside: np.save(beside, np.stack(crops)))
    return torch.from_numpy(np.load(kept))
