"""Faces cut out of a photograph, and put back into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from eggan.faces import Face, Photograph, align, detect, native_size, put_back, select
from eggan.provenance import FaceEdit, Provenance

__all__ = ["Cut", "Edited", "EditedCut", "choose", "crop_size", "cut_faces", "put_together"]

MAX_CROP = 2048
"""Side in pixels of the largest crop that is edited: a larger face loses detail finer than that where it changes."""


@dataclass(frozen=True)
class Edited:
    """An edited photograph, or with `crop` the aligned face alone.

    Attributes:
        photograph: its pixels, with alpha, profile and notes of the one given.
        provenance: the record to write with it; one `FaceEdit` a face.
        left_out: how many faces `face="all"` left out because they cannot be aligned.
    """

    photograph: Photograph
    provenance: Provenance
    left_out: int = 0

    def picture(self) -> Image.Image:
        """As a Pillow picture; `info["eggan"]` holds the record, which `eggan.provenance.save_picture` writes."""
        picture = self.photograph.picture()
        picture.info["eggan"] = self.provenance
        return picture


class Cut(NamedTuple):
    """A face cut out of a photograph: uint8 (S, S, 3), where it is (None if it was given cut out), its `--face`."""

    crop: np.ndarray
    face: Face | None
    number: int = 0


class EditedCut(NamedTuple):
    """A face and its edit, uint8 (S, S, 3): at the crop's size where the model composes, else at the model's own."""

    cut: Cut
    crop: np.ndarray
    record: FaceEdit


def crop_size(face: Face, side: int | None) -> int:
    """Side in pixels of a face's crop; where none is given, the photograph's own, `MAX_CROP` at most."""
    return min(native_size(face), MAX_CROP) if side is None else side


def cut_faces(photo: Photograph, which: str | int, side: int | None) -> tuple[list[Cut], int]:
    """The faces of a photograph that `--face` means, cut out, and how many of `all` were left out.

    Raises:
        EgganError: as `eggan.faces.select`.
    """
    chosen, left_out = choose(detect(photo.pixels), which, photo.name)
    return [Cut(align(photo.pixels, face, crop_size(face, side)), face, number) for number, face in chosen], left_out


def choose(faces: Sequence[Face], which: str | int, name: str) -> tuple[list[tuple[int, Face]], int]:
    """The faces that `--face` means, each with its number, and how many of `all` were left out."""
    chosen = select(faces, which, name)
    return [(faces.index(face), face) for face in chosen], len(faces) - len(chosen) if which == "all" else 0


def put_together(photo: Photograph, edits: Sequence[EditedCut], model: str, crop: bool, left_out: int = 0) -> Edited:
    """A photograph with the edits of its faces put back, or where `crop` is set the one edited crop; and the record."""
    pixels = photo.pixels
    for cut, edited, _ in edits:
        assert cut.face is not None
        pixels = edited if crop else put_back(pixels, edited, cut.face, original=cut.crop)
    result = replace(photo, pixels=pixels, alpha=None if crop else photo.alpha)
    return Edited(result, Provenance(model, tuple(edit.record for edit in edits)), left_out)
