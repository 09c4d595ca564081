"""The one way in for the command line and library users: a picture and what to change, to a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from eggan.action_units import COLUMNS, MAX_INTENSITY, NUMBERS, emotion_target, target_vector
from eggan.contact_sheet import to_pictures
from eggan.errors import EgganError
from eggan.estimator import ActionUnitEstimator
from eggan.model import EGGAN
from eggan.provenance import Provenance
from eggan.weights import shipped

__all__ = ["DEFAULT_MODEL", "Editor", "open_photo", "shipped_models", "whole_expression"]

DEFAULT_MODEL = "small"


class Editor:
    """Edits square pictures of one frontal face, framed as facsynth frames it (eyes at 2/5 of the height).

    >>> from PIL import Image
    >>> editor = Editor.from_pretrained()
    >>> editor.edit(Image.new("RGB", (128, 128), "tan"), {12: 4, 6: 2}).size
    (128, 128)
    """

    def __init__(self, model: EGGAN, estimator: ActionUnitEstimator, name: str = "unnamed") -> None:
        self.model, self.estimator, self.name = model, estimator, name

    @classmethod
    def from_pretrained(cls, model: str | Path = DEFAULT_MODEL) -> Editor:
        """A shipped model by name, or a folder of `save_pretrained` or of a training run.

        Raises:
            EgganError: no such model, or its files do not fit together.
        """
        return cls(EGGAN.from_pretrained(model), ActionUnitEstimator.from_pretrained(), str(model))

    def action_units(self, photo: Image.Image | np.ndarray) -> list[float]:
        """The 17 intensities, 0..5, that the built-in estimator reads off a picture."""
        return self.estimator.read(_to_tensor(photo))[0].tolist()

    def edit(
        self,
        photo: Image.Image | np.ndarray,
        targets: Mapping[int, float] | str,
        *,
        only: bool = False,
        relative: bool = False,
    ) -> Image.Image:
        """A new picture of the same person with the target expression.

        Args:
            photo: square picture, PIL or uint8 (H, W, 3) numpy.
            targets: AU number to intensity 0..5 (to change -5..5 where `relative`); the other AUs stay at the
                source's own. Or the name of an emotion, which sets all 17 AUs.
            only: AUs that are not named go to 0.
            relative: named values are added to the source's.

        Returns:
            The edit: at the photo's size where the model composes, at the model's own in the paper's form.
            `info["eggan"]` holds what was done; `eggan.provenance.save_picture` writes it with the picture.

        Raises:
            EgganError: the picture is not square, an AU is none of the 17, or a value is out of range.
        """
        if isinstance(targets, str):
            targets, only = whole_expression(emotion_target(targets)), False
        source = self.action_units(photo)
        target = target_vector(source, targets, only=only, relative=relative)
        return self.edit_to(photo, source, target)

    @torch.inference_mode()
    def edit_to(self, photo: Image.Image | np.ndarray, source: list[float], target: list[float]) -> Image.Image:
        """The edit where all 17 source and target intensities (0..5) are known."""
        u_i, u_t = (torch.tensor([vector]) / MAX_INTENSITY for vector in (source, target))
        (picture,) = to_pictures(self.model.edit(_to_tensor(photo), u_i, u_t))
        provenance = Provenance(
            model=self.name,
            source=dict(zip(COLUMNS, (round(value, 3) for value in source), strict=True)),
            target=dict(zip(COLUMNS, (round(value, 3) for value in target), strict=True)),
        )
        picture.info["eggan"] = provenance
        return picture


def shipped_models() -> dict[str, EGGAN]:
    """The models that come with the package, the default first."""
    names = sorted(shipped(EGGAN), key=lambda name: (name != DEFAULT_MODEL, name))
    return {name: EGGAN.from_pretrained(name) for name in names}


def whole_expression(targets: Mapping[int, float]) -> dict[int, float]:
    """All 17 AUs of an expression: those of a prototype, the others 0."""
    return {number: targets.get(number, 0.0) for number in NUMBERS}


def open_photo(path: Path) -> Image.Image:
    """Open a picture file upright and in RGB.

    Raises:
        EgganError: no such file, or no picture.
    """
    if not path.is_file():
        raise EgganError(f"There is no file {path}.")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Image.DecompressionBombError:
        raise EgganError(f"{path} has too many pixels to open safely; make it smaller first.") from None
    except (OSError, SyntaxError, ValueError):
        raise EgganError(f"{path} is not a picture that can be read; give a PNG, JPEG or WebP file.") from None


def _to_tensor(photo: Image.Image | np.ndarray) -> Tensor:
    """A square picture as (1, 3, H, H) in [-1, 1]."""
    pixels = np.asarray(photo.convert("RGB") if isinstance(photo, Image.Image) else photo)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise EgganError(f"A picture as an array must be uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}.")
    height, width = pixels.shape[:2]
    if height != width:
        raise EgganError(f"The picture is {width}×{height} pixels: give a square crop around one face.")
    if height < 16:
        raise EgganError(f"The picture is {width}×{height} pixels: give a face of at least 16×16.")
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
