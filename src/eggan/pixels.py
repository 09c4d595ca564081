"""Between the pixels of pictures, 0..255, and the images that networks see, [-1, 1]; and where pixels lie."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["middles", "to_bytes", "to_floats"]


def to_floats(pixels: Tensor) -> Tensor:
    """Pixels uint8 of any shape to float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """Images of any shape to uint8, the nearest; what lies beyond [-1, 1] becomes 0 or 255."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte()


def middles(side: int, device: torch.device | None = None) -> Tensor:
    """Middles of a row of pixels in half sides from the middle of the picture, (side,) in [-1, 1], as `grid_sample`."""
    return (torch.arange(side, device=device) + 0.5) / side * 2 - 1
