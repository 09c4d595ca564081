"""What light, cameras and hands do to a picture of a face, for judges that must not mind. Images are in [-1, 1]."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from eggan.contact_sheet import to_pictures
from eggan.pixels import to_floats

__all__ = ["as_if_photographed", "compress", "occlude", "randomise"]


def randomise(x: Tensor, generator: torch.Generator) -> Tensor:
    """What alignment and cameras do to images (B, 3, S, S): a small similarity transform, sometimes blur, noise."""
    b, _, s, _ = x.shape
    angle, scale = _uniform(-0.09, 0.09, b, generator), 1 + _uniform(-0.07, 0.07, b, generator)
    across, down = (_uniform(-0.06, 0.06, b, generator) for _ in range(2))
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.cat([cos, -sin, across, sin, cos, down], dim=1).view(b, 2, 3)
    grid = affine_grid(matrix, [b, 3, s, s], align_corners=False)
    x = grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    for share, factor in ((0.4, 2), (0.3, 4)):
        amount = _uniform(0, 1, b, generator) * _sometimes(share, b, generator)
        x = torch.lerp(x, _smooth(x, factor), amount)
    return x + _uniform(0, 0.04, b, generator) * torch.randn(x.shape, generator=generator)


def occlude(x: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of one colour, of a quarter to a half of the side each way, over every fifth image (B, 3, S, S)."""
    b, _, s, _ = x.shape
    axis = (torch.arange(s) + 0.5) / s

    def band() -> Tensor:
        middle, half = _uniform(0, 1, b, generator), _uniform(0.06, 0.25, b, generator)
        return (axis.view(1, 1, 1, s) - middle).abs() < half

    covered = band() & band().transpose(2, 3) & (_sometimes(0.2, b, generator) > 0)
    return torch.where(covered, _uniform(-1, 1, b, generator, channels=3), x)


def compress(x: Tensor, generator: torch.Generator) -> Tensor:
    """JPEG of quality 25 to 85 for every third image (B, 3, S, S)."""
    qualities = torch.randint(25, 86, (len(x),), generator=generator)
    chosen = (_sometimes(1 / 3, len(x), generator) > 0).flatten()
    pictures = to_pictures(x[chosen])
    x = x.clone()
    for k, picture in zip(chosen.nonzero().flatten().tolist(), pictures, strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(qualities[k]))
        x[k] = to_floats(torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1))
    return x


def as_if_photographed(x: Tensor, photos: Tensor, generator: torch.Generator) -> Tensor:
    """Rendered faces (B, 3, S, S) with what photographs (B, 3, S, S) have and renders lack, each for some of them.

    Around an oval the photograph stands in for the background, hair and neck; its fine detail is laid over the skin;
    and the picture takes on its brightness, contrast and colour.
    """
    b, _, s, _ = x.shape
    axis = ((torch.arange(s) + 0.5) / s * 2 - 1).expand(s, s)
    oval = (((axis / 0.8) ** 2 + ((axis.T - 0.1) / 0.95) ** 2 - 1) * 5).sigmoid()
    x = torch.lerp(x, photos, oval * _sometimes(0.3, b, generator))
    detail = photos - _smooth(photos, 4)
    x = x + _uniform(0, 0.7, b, generator) * _sometimes(0.4, b, generator) * detail
    mean, spread = (f(x, dim=(2, 3), keepdim=True) for f in (torch.mean, torch.std))
    other_mean, other_spread = (f(photos, dim=(2, 3), keepdim=True) for f in (torch.mean, torch.std))
    toned = (x - mean) / (spread + 0.05) * (other_spread + 0.05) + other_mean
    return torch.lerp(x, toned, _uniform(0, 1, b, generator) * _sometimes(0.4, b, generator)).clamp(-1, 1)


def _smooth(x: Tensor, factor: int) -> Tensor:
    return interpolate(avg_pool2d(x, factor), scale_factor=float(factor), mode="bilinear", align_corners=False)


def _uniform(low: float, high: float, b: int, generator: torch.Generator, channels: int = 1) -> Tensor:
    return low + (high - low) * torch.rand(b, channels, 1, 1, generator=generator)


def _sometimes(share: float, b: int, generator: torch.Generator) -> Tensor:
    """(B, 1, 1, 1) of 1 for about this share of the items, else 0."""
    return (torch.rand(b, 1, 1, 1, generator=generator) < share).float()
