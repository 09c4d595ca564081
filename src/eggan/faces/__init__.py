"""Photographs: open them, find their faces, align each to the crop, and put the edited crop back.

>>> import numpy as np
>>> from eggan.faces import detect
>>> detect(np.full((64, 64, 3), 128, np.uint8))
[]
"""

from eggan.faces.alignment import EYE_LINE, align, crop_transform, native_size
from eggan.faces.detection import Face, check_which, detect, select
from eggan.faces.paste import put_back
from eggan.faces.photograph import MAX_PIXELS, MIN_SIDE, Photograph, open_photograph, to_photograph

__all__ = [
    "EYE_LINE",
    "MAX_PIXELS",
    "MIN_SIDE",
    "Face",
    "Photograph",
    "align",
    "check_which",
    "crop_transform",
    "detect",
    "native_size",
    "open_photograph",
    "put_back",
    "select",
    "to_photograph",
]
