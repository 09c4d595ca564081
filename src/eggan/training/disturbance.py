"""What light, cameras and hands do to a picture of a face, for judges that must not mind. Images are in [-1, 1]."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from eggan.contact_sheet import to_pictures
from eggan.data.appearance import (
    augment,
    draw_place,
    draw_setting,
    draw_shadow,
    draw_teeth,
    relight,
    with_place,
    with_setting,
    with_shadow,
    with_teeth,
)
from eggan.pixels import to_floats

__all__ = ["among_photographs", "as_if_photographed", "compress", "disturb", "occlude", "randomise"]


def disturb(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, 3, S, S) as those who read AUs must not mind them: some covered and compressed, all randomised."""
    return randomise(compress(occlude(x, generator), generator), generator)


def randomise(x: Tensor, generator: torch.Generator) -> Tensor:
    """What alignment, pose and cameras do to images (B, 3, S, S): `with_place`, sometimes blur, noise."""
    b = len(x)
    x = with_place(x.unsqueeze(1), draw_place(b, generator)).squeeze(1)
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


def among_photographs(renders: Tensor, photos: Tensor, generator: torch.Generator) -> Tensor:
    """Renders uint8 (B, 3, S, S) as photographs uint8 (M, 3, S, S) show faces: float32 (B, 3, S, S) in [-1, 1].

    Their teeth as warm as people's, some in the shadow of hard light, with what `as_if_photographed` adds of
    photographs drawn for them, and the first half in another light altogether.
    """
    b = len(renders)
    x = with_teeth(augment(renders.unsqueeze(1), generator), draw_teeth(b, generator))
    x = with_shadow(x, draw_shadow(b, generator)).squeeze(1)
    x = as_if_photographed(x, to_floats(photos[torch.randint(len(photos), (b,), generator=generator)]), generator)
    return torch.cat([relight(x[: b // 2], generator), x[b // 2 :]])


def as_if_photographed(x: Tensor, photos: Tensor, generator: torch.Generator) -> Tensor:
    """Rendered faces (B, 3, S, S) with what photographs (B, 3, S, S) have and renders lack, each for some of them.

    Their surroundings and tone (`with_setting`), and their fine detail, laid over the skin.
    """
    b = len(x)
    x = with_setting(x.unsqueeze(1), photos, draw_setting(b, generator)).squeeze(1)
    detail = photos - _smooth(photos, 4)
    return (x + _uniform(0, 0.7, b, generator) * _sometimes(0.4, b, generator) * detail).clamp(-1, 1)


def _smooth(x: Tensor, factor: int) -> Tensor:
    return interpolate(avg_pool2d(x, factor), scale_factor=float(factor), mode="bilinear", align_corners=False)


def _uniform(low: float, high: float, b: int, generator: torch.Generator, channels: int = 1) -> Tensor:
    return low + (high - low) * torch.rand(b, channels, 1, 1, generator=generator)


def _sometimes(share: float, b: int, generator: torch.Generator) -> Tensor:
    """(B, 1, 1, 1) of 1 for about this share of the items, else 0."""
    return (torch.rand(b, 1, 1, 1, generator=generator) < share).float()
