"""How faces are shown in training: mirrored, moved, in another light, with other teeth, before another background.

Every treatment has two halves: `draw_…` makes its choices, one row an item, and `with_…` shows images by them. Images
are (B, K, 3, S, S): the K images of one item, such as source and target of a pair, are treated alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from eggan.pixels import middles, to_floats

__all__ = [
    "AS_IT_IS_LIT",
    "AS_IT_STANDS",
    "augment",
    "draw_light",
    "draw_look",
    "draw_place",
    "draw_setting",
    "draw_shadow",
    "draw_teeth",
    "relight",
    "with_light",
    "with_look",
    "with_place",
    "with_setting",
    "with_shadow",
    "with_teeth",
]

AS_IT_STANDS = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
"""The choices of `draw_place` that change nothing."""
AS_IT_IS_LIT = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
"""The choices of `draw_light` that change nothing."""
TURNING_STEPS = 4
"""Steps by which `with_place` finds what a turned head shows where; each leaves about half, or less, of the error."""


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror at random and jitter brightness, contrast and saturation a little.

    Args:
        images: uint8 (B, K, 3, S, S).
        generator: source of randomness.

    Returns:
        float32 of the same shape in [-1, 1]. AU intensities are means of both sides, so mirroring keeps them.
    """
    return with_look(images, draw_look(len(images), generator))


def draw_look(batch_size: int, generator: torch.Generator) -> Tensor:
    """Whether to mirror (1 or 0), gain, contrast and saturation of each item: (B, 4)."""
    mirrored = (torch.rand(batch_size, generator=generator) < 0.5).float()
    jitter = 1 + 0.1 * (2 * torch.rand(3, batch_size, generator=generator) - 1)
    return torch.cat([mirrored[None], jitter]).T


def with_look(images: Tensor, look: Tensor) -> Tensor:
    """Images uint8 (B, K, 3, S, S) as `augment` returns them, by the choices of `draw_look`."""
    mirrored, gain, contrast, saturation = _columns(look, 5)
    x = to_floats(torch.where(mirrored > 0, images.flip(-1), images))
    grey = x.mean(dim=2, keepdim=True)
    x = grey + saturation * (x - grey)
    mean = x.mean(dim=(1, 2, 3, 4), keepdim=True)
    x = (mean + contrast * (x - mean) + 1) * gain - 1
    return x.clamp(-1, 1)


def draw_teeth(batch_size: int, generator: torch.Generator) -> Tensor:
    """How much redder the teeth of each item become, 1 to 1.16: (B, 1). Those of facsynth are whiter than people's."""
    return _between([1.0], [1.16], batch_size, generator)


def with_teeth(x: Tensor, redder: Tensor) -> Tensor:
    """Aligned renders whose teeth have their red multiplied by the choices of `draw_teeth`.

    Teeth are what in the mouth's window is less than half as warm as the cheeks, (R - B) / (R + G + B), and not dark;
    from there to a third as warm the change grows to its full size.

    Args:
        x: images (B, K, 3, S, S) in [-1, 1].
        redder: choices (B, 1).
    """
    S = x.shape[-1]
    rows, left, right = (slice(int(a * S), int(b * S)) for a, b in ((0.47, 0.6), (0.2, 0.31), (0.69, 0.8)))
    light = (x + 1) / 2
    cheeks = torch.cat([light[..., rows, left], light[..., rows, right]], dim=-1).mean(dim=(3, 4), keepdim=True)
    mouth = (..., slice(int(0.59 * S), int(0.9 * S)), slice(int(0.29 * S), int(0.71 * S)))
    teeth = ((0.5 - _warmth(light[mouth]) / _warmth(cheeks).clamp(min=0.02)) * 6).clamp(0, 1)
    teeth = teeth * (light[mouth].sum(2, keepdim=True) > 0.45 * cheeks.sum(2, keepdim=True))
    red = light[mouth][:, :, :1]
    red *= 1 + (redder.view(-1, 1, 1, 1, 1) - 1) * teeth
    return 2 * light.clamp(max=1) - 1


def draw_place(batch_size: int, generator: torch.Generator) -> Tensor:
    """Where faces (B, 7) stand: angle in radians, scale, width over height, shift across and down in half sides, turn.

    The first five as far as alignment by five landmarks leaves faces from one another; the turn is the tangent of how
    far the head is turned aside (up to 27 degrees) and raised (14), small turns being likelier.
    """
    low = [-0.09, 0.93, 0.93, -0.06, -0.06, -0.5, -0.25]
    place = _between(low, [0.09, 1.07, 1.07, 0.06, 0.06, 0.5, 0.25], batch_size, generator)
    place[:, 5:] *= torch.rand(batch_size, 1, generator=generator)
    return place


def with_place(x: Tensor, place: Tensor) -> Tensor:
    """Images (B, K, 3, S, S) rotated, scaled, shifted and turned by the choices of `draw_place`; beyond is mirrored.

    Heads turn as reliefs do: what lies nearer to the camera than the eyes moves with the turn, what lies farther
    against it, by the depth of `_relief`. Facsynth's own heads hardly turn (standard deviation 3 degrees), people's do.
    """
    angle, scale, aspect, across, down = place[:, :5].unbind(1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cos / aspect, -sin / aspect, across, sin, cos, down], dim=1).view(-1, 2, 3)
    flat = x.flatten(1, 2)
    seen = affine_grid(matrix, list(flat.shape), align_corners=False)
    turn, grid = place[:, None, None, 5:], seen
    for _ in range(TURNING_STEPS):
        grid = seen - turn * _relief(grid)
    return grid_sample(flat, grid, padding_mode="reflection", align_corners=False).view_as(x)


def _relief(points: Tensor) -> Tensor:
    """How much nearer than its eyes a head is at points (…, 2) of the crop, all in half sides: (…, 1).

    A Gaussian bump, 0.9 high in the middle and a seventh of that at the sides of the crop: the mouth lies 0.1 before
    the eyes, the ears 0.3 behind them.
    """
    middle, eye = points.new_tensor([0.0, 0.1]), points.new_tensor([0.3, -0.21])

    def depth(at: Tensor) -> Tensor:
        return 0.9 * (-2 * (at - middle).square().sum(dim=-1, keepdim=True)).exp()

    return depth(points) - depth(eye)


def relight(x: Tensor, generator: torch.Generator) -> Tensor:
    """Another lamp and camera: colour of the light, side it falls from, saturation, gamma.

    The range reaches from a face in the shade, where a dark skin is nearly black, to one in the sun. The sessions of
    one person differ in these, so that none may tell people apart.

    Args:
        x: images (B, 3, S, S) or (B, K, 3, S, S) in [-1, 1].
        generator: source of randomness.

    Returns:
        The same shape in [-1, 1].
    """
    return with_light(x, draw_light(len(x), generator))


def draw_light(batch_size: int, generator: torch.Generator) -> Tensor:
    """Saturation, and logarithms of gamma, of brightness at the middle, of its slopes across and down, of R, G, B."""
    low = [0.6, -0.5, -0.7, -0.8, -0.4, -0.12, -0.12, -0.12]
    return _between(low, [1.3, 0.5, 0.4, 0.8, 0.4, 0.12, 0.12, 0.12], batch_size, generator)


def with_light(x: Tensor, light: Tensor) -> Tensor:
    """Images as `relight` returns them, by the choices of `draw_light`."""
    saturation, gamma, middle, across, down = _columns(light[:, :5], x.dim())
    tint = light[:, 5:].view(len(light), *[1] * (x.dim() - 4), 3, 1, 1)
    x = (x + 1) / 2
    grey = x.mean(dim=-3, keepdim=True)
    x = (grey + saturation * (x - grey)).clamp(0.002, 1) ** gamma.exp()
    axis = middles(x.shape[-1], x.device)
    x = x * (middle + across * axis + down * axis[:, None] + tint).exp()
    return 2 * x.clamp(0, 1) - 1


def draw_shadow(batch_size: int, generator: torch.Generator) -> Tensor:
    """Depth of a shadow (0 for two of three) and, of its edge, direction, place, softness, bends, phase: (B, 6)."""
    shadow = _between(
        [0.3, 0.0, -0.4, 0.05, 0.0, 0.0], [1.4, 2 * math.pi, 0.4, 0.3, 0.15, 2 * math.pi], batch_size, generator
    )
    shadow[:, 0] *= torch.rand(batch_size, generator=generator) < 1 / 3
    return shadow


def with_shadow(x: Tensor, shadow: Tensor) -> Tensor:
    """Images (B, K, 3, S, S) with one side in shadow, as hard light leaves it, by the choices of `draw_shadow`.

    The edge is a wave across the picture, which stays where it is while the face below it moves.
    """
    depth, angle, place, softness, bends, phase = _columns(shadow, 5)
    axis = middles(x.shape[-1], x.device)
    across = angle.cos() * axis + angle.sin() * axis[:, None]
    along = angle.cos() * axis[:, None] - angle.sin() * axis
    dark = ((across - place - bends * (5 * along + phase).sin()) / softness * 4).sigmoid()
    return (x + 1) * (-depth * dark).exp() - 1


def draw_setting(batch_size: int, generator: torch.Generator) -> Tensor:
    """Whether a photograph stands in for the surroundings (1 or 0), and how far it sets the tone, 0 to 1: (B, 2)."""
    choices = torch.rand(batch_size, 3, generator=generator)
    return torch.stack([(choices[:, 0] < 0.5).float(), choices[:, 1] * (choices[:, 2] < 0.5)], dim=1)


def with_setting(x: Tensor, photos: Tensor, setting: Tensor) -> Tensor:
    """Rendered faces in the surroundings and the tone of photographs, by the choices of `draw_setting`.

    Around an oval the photograph stands in for background, hair and neck; brightness, contrast and colour of the
    picture go towards its own.

    Args:
        x: images (B, K, 3, S, S) in [-1, 1].
        photos: aligned photographs (B, 3, S, S) in [-1, 1].
        setting: choices (B, 2).
    """
    surroundings, tone = _columns(setting, 5)
    photos = photos.unsqueeze(1)
    axis = middles(x.shape[-1], x.device)
    outside = (((axis / 0.8) ** 2 + ((axis[:, None] - 0.1) / 0.95) ** 2 - 1) * 5).sigmoid()
    x = torch.lerp(x, photos, outside * surroundings)
    mean, spread = (f(x[:, :1], dim=(3, 4), keepdim=True) for f in (torch.mean, torch.std))
    other_mean, other_spread = (f(photos, dim=(3, 4), keepdim=True) for f in (torch.mean, torch.std))
    toned = (x - mean) / (spread + 0.05) * (other_spread + 0.05) + other_mean
    return torch.lerp(x, toned, tone).clamp(-1, 1)


def _between(low: list[float], high: list[float], batch_size: int, generator: torch.Generator) -> Tensor:
    """Uniform draws between two vectors of n bounds, (B, n)."""
    bottom, top = torch.tensor(low), torch.tensor(high)
    return bottom + (top - bottom) * torch.rand(batch_size, len(low), generator=generator)


def _warmth(light: Tensor) -> Tensor:
    """(R - B) / (R + G + B) of pixels in [0, 1], (B, K, 3, H, W) to (B, K, 1, H, W)."""
    R, _, B = light.split(1, dim=2)
    return (R - B) / (light.sum(dim=2, keepdim=True) + 1e-3)


def _columns(choices: Tensor, dims: int) -> tuple[Tensor, ...]:
    """Choices (B, n) as n tensors that spread over images of so many dimensions."""
    return choices.view(*choices.shape, *[1] * (dims - 1)).unbind(1)
