"""Beards for rendered faces, which have none: drawn on the first image of an item, carried to the others by landmarks.

Landmarks are the 68 of Multi-PIE in half sides from the middle, (B, K, 68, 2) as (x, y) in [-1, 1]: 0 to 16 the jaw
from ear to ear, 31 to 35 the base of the nose, 48 to 59 the outer edge of the lips.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from eggan.pixels import middles

__all__ = ["Beards", "draw_beards", "with_beards"]

WORN = 0.35
"""Share of the items with a beard."""
STYLES = torch.tensor([[1, 0, 0], [1, 0, 1], [0, 0, 1], [1, 1, 1], [1, 1, 1]])
"""Moustache, beard of cheeks and jaw, of the chin: moustache alone, goatee, chin alone, and twice full."""
LIPS = slice(48, 60)
SMOOTHING = 1e-3
"""Of a spline, on the diagonal: what lets landmarks that nearly meet in one image part in the other."""
COARSE = 32
"""Side of the grid on which a spline is worked out: it bends no more than that shows."""


class Beards(NamedTuple):
    """Choices, a row an item.

    Attributes:
        parts: moustache, cheeks and jaw, chin: 1 where hair grows, (B, 3).
        tone: what hair makes of the skin's R, G, B below it, in light of 0 to 1: (B, 3).
        density: how much of the skin is covered, (B,).
        hang: how far the moustache reaches over the upper lip, 0 to 1, (B,).
        strands: noise of mean 0 and deviation 1, drawn out downwards, (B, 1, S, S).
    """

    parts: Tensor
    tone: Tensor
    density: Tensor
    hang: Tensor
    strands: Tensor


def draw_beards(batch_size: int, side: int, generator: torch.Generator) -> Beards:
    """From stubble to full beards, from black to white and red, for about a third of the items."""
    chance = torch.rand(batch_size, 5, generator=generator)
    style = STYLES[torch.randint(len(STYLES), (batch_size,), generator=generator)]
    noise = torch.randn(batch_size, 1, side, side, generator=generator)
    strands = avg_pool2d(noise, (5, 1), stride=1, padding=(2, 0), count_include_pad=False) * 5**0.5
    dark = 0.15 + 0.85 * chance[:, 1] ** 2
    red = 0.3 * chance[:, 2] ** 2
    tone = torch.stack([dark * (1 + red), dark, dark * (1 - red)], dim=1)
    density = 0.3 + 0.7 * chance[:, 3].sqrt()
    return Beards(style * (chance[:, :1] < WORN), tone, density, chance[:, 4], strands)


def with_beards(x: Tensor, landmarks: Tensor, beards: Beards) -> Tensor:
    """Images (B, K, 3, S, S) in [-1, 1] with the beards; hair moves as the skin does and is lit as it is."""
    worn = beards.parts.any(dim=1)
    if not worn.any():
        return x
    landmarks, beards = landmarks[worn].float(), Beards(*(choice[worn] for choice in beards))
    light = (x[worn] + 1) / 2
    K, side = light.shape[1], light.shape[-1]
    hair = torch.cat([_grown(landmarks[:, 0], beards, side), beards.strands], dim=1)
    for k in range(K):
        here = hair if k == 0 else _carried(hair, landmarks[:, 0], landmarks[:, k], side)
        cover = here[:, :1] * (1 - _soft(_inside(_bare_lips(landmarks[:, k], beards.hang), side)))
        cover = cover * beards.density.view(-1, 1, 1, 1) * (0.85 + 0.15 * here[:, 1:])
        skin = avg_pool2d(light[:, k], 9, stride=1, padding=4, count_include_pad=False)
        shown = skin * beards.tone[:, :, None, None] * (1 + 0.2 * here[:, 1:])
        light[:, k] = torch.lerp(light[:, k], shown.clamp(0, 1), cover.clamp(0, 1))
    x = x.clone()
    x[worn] = 2 * light - 1
    return x


def _grown(points: Tensor, beards: Beards, side: int) -> Tensor:
    """Where hair grows, lips included, on faces with these landmarks (B, 68, 2): 0 to 1, (B, 1, S, S)."""
    jaw, nose, lips = points[:, :17], points[:, 31:36], points[:, LIPS]
    middle = lips.mean(dim=1, keepdim=True)
    jaw = middle + 1.08 * (jaw - middle)
    left, right = middle + 1.25 * (lips[:, :1] - middle), middle + 1.25 * (lips[:, 6:7] - middle)
    below_nose = torch.lerp(nose, lips[:, 1:6], 0.25)
    left_cheek, right_cheek = torch.lerp(jaw[:, 3:4], left, 0.6), torch.lerp(jaw[:, 13:14], right, 0.6)
    moustache = [left, below_nose, right]
    cheeks_and_jaw = [left, left_cheek, jaw[:, 2:15], right_cheek, right]
    chin = [left, jaw[:, 7:10], right]
    outlines = [torch.cat(outline, dim=1) for outline in (moustache, cheeks_and_jaw, chin)]
    parts = torch.stack([_soft(_inside(outline, side)) for outline in outlines])
    return (parts * beards.parts.T[:, :, None, None, None]).amax(dim=0)


def _bare_lips(points: Tensor, hang: Tensor) -> Tensor:
    """The outline of the lips (B, 12, 2), its upper edge drawn half-way down to the corners by a `hang` of 1."""
    lips = points[:, LIPS].clone()
    corners = (lips[:, :1] + lips[:, 6:7]) / 2
    lips[:, 1:6] = torch.lerp(lips[:, 1:6], corners, hang.view(-1, 1, 1) / 2)
    return lips


def _carried(layer: Tensor, source: Tensor, target: Tensor, side: int) -> Tensor:
    """A layer (B, C, S, S) of faces with landmarks `source` as it lies on the same faces with landmarks `target`.

    The inner edges of the lips, which meet in one and part in the other, are left out.
    """
    source, target = source[:, : LIPS.stop], target[:, : LIPS.stop]
    grid = _grid(COARSE, source.device).view(1, -1, 2).expand(len(source), -1, -1)
    places = _spline(target, source, grid).mT.unflatten(2, (COARSE, COARSE))
    places = interpolate(places, size=(side, side), mode="bilinear", align_corners=False)
    return grid_sample(layer, places.permute(0, 2, 3, 1), align_corners=False)


def _spline(points: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """The thin-plate spline (Bookstein 1989) that takes points (B, n, 2) to values (B, n, 2), at other points."""
    bending = _bending(torch.cdist(points, points)) + SMOOTHING * torch.eye(points.shape[1], device=points.device)
    affine = torch.cat([torch.ones_like(points[..., :1]), points], dim=2)
    zero = affine.new_zeros(len(points), 3, 3)
    system = torch.cat([torch.cat([bending, affine], dim=2), torch.cat([affine.mT, zero], dim=2)], dim=1)
    weights = torch.linalg.solve(system, torch.cat([values, zero[..., :2]], dim=1))
    return torch.cat([_bending(torch.cdist(at, points)), torch.ones_like(at[..., :1]), at], dim=2) @ weights


def _bending(r: Tensor) -> Tensor:
    return r.square() * (r + 1e-9).log()


def _inside(outline: Tensor, side: int) -> Tensor:
    """Whether pixels lie inside closed outlines (B, P, 2), by the even-odd rule: 1 or 0, (B, 1, S/2, S/2)."""
    x, y = _grid(side // 2, outline.device).unbind(-1)
    x0, y0 = (c[:, :, None, None] for c in outline.unbind(2))
    x1, y1 = (c[:, :, None, None] for c in outline.roll(-1, 1).unbind(2))
    crosses = (y0 > y) != (y1 > y)
    left = x < x0 + (y - y0) * (x1 - x0) / torch.where(y1 == y0, 1, y1 - y0)
    return ((crosses & left).sum(dim=1, keepdim=True) % 2).float()


def _soft(inside: Tensor) -> Tensor:
    """With an edge of some pixels, at twice the side."""
    inside = avg_pool2d(inside, 3, stride=1, padding=1)
    return interpolate(inside, scale_factor=2.0, mode="bilinear", align_corners=False)


def _grid(side: int, device: torch.device) -> Tensor:
    """Middles of pixels as (x, y) in [-1, 1]: (S, S, 2)."""
    axis = middles(side, device)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
