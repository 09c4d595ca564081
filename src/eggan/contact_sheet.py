"""The one helper for pictures of pictures: a grid with labelled rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from eggan.pixels import to_bytes

__all__ = ["contact_sheet", "to_pictures"]

MARGIN = 4


def contact_sheet(
    rows: Sequence[Sequence[Image.Image | None]], row_labels: Sequence[str], column_labels: Sequence[str], cell: int
) -> Image.Image:
    """Lay pictures out on white.

    Args:
        rows: pictures; None leaves a cell empty.
        row_labels: one a row, in the left margin, lines split at newlines.
        column_labels: one a column, above.
        cell: side of a cell in pixels; pictures are resampled to it.
    """
    font = ImageFont.load_default(max(10, cell // 9))
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = int(max((draw.multiline_textbbox((0, 0), label, font)[2] for label in row_labels), default=0)) + 2 * MARGIN
    top = int(max((draw.multiline_textbbox((0, 0), text, font)[3] for text in column_labels), default=0)) + 2 * MARGIN
    step = cell + MARGIN
    sheet = Image.new("RGB", (left + step * len(column_labels), top + step * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for j, text in enumerate(column_labels):
        draw.multiline_text((left + j * step + cell / 2, top / 2), text, "black", font, "mm", align="center")
    for i, (row, label) in enumerate(zip(rows, row_labels, strict=True)):
        draw.multiline_text((MARGIN, top + i * step + cell / 2), label, "black", font, "lm")
        for j, picture in enumerate(row):
            if picture is not None:
                resized = picture.resize((cell, cell), Image.Resampling.BICUBIC)
                sheet.paste(resized, (left + j * step, top + i * step))
    return sheet


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images (B, 3, S, S) in [-1, 1] as pictures."""
    pixels = to_bytes(images).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in pixels]
