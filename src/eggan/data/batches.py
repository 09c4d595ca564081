"""Training batches, drawn from faces in memory: which rows and which targets, and in which appearance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eggan.action_units import MAX_INTENSITY, NUMBERS
from eggan.data.appearance import (
    AS_IT_IS_LIT,
    AS_IT_STANDS,
    draw_light,
    draw_look,
    draw_place,
    draw_setting,
    draw_shadow,
    draw_teeth,
    with_light,
    with_look,
    with_place,
    with_setting,
    with_shadow,
    with_teeth,
)
from eggan.data.beards import Beards, draw_beards, with_beards
from eggan.data.faces_file import Faces
from eggan.pixels import to_floats

__all__ = ["Batch", "Photographs", "TrainingRows", "draw_batch", "moved"]

CPU = torch.device("cpu")
NOBODY = -100
"""Class of a photograph's person, which a cross-entropy leaves out."""
SOURCE_NOISE = 0.08
"""Standard deviation of what is added to u_i of every second randomised source: about what the estimator errs by."""
LIPS_OF_JAW = 0.6
"""An AU 26 comes with so much of AU 25 at least: facsynth's rule."""


@dataclass(frozen=True)
class Batch:
    """One training batch, in the paper's symbols.

    Attributes:
        I_i: source images, float32 (B, 3, S, S) in [-1, 1].
        u_i: their AU intensities / 5, (B, 17) in [0, 1].
        c_i: their identities' classes, int64 (B,); `NOBODY` for photographs.
        u_t: target AU intensities / 5, (B, 17).
        I_t: the true image of that target, same person and session, (B, 3, S, S); None where it is not known.
        unpaired: which rows are asked for what no image shows, bool (B,) on the CPU: I_t is some other image there.
            None where no row is, or where there is no I_t.
    """

    I_i: Tensor
    u_i: Tensor
    c_i: Tensor
    u_t: Tensor
    I_t: Tensor | None
    unpaired: Tensor | None = None

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """Some of the rows, by a slice or as bool (B,) says, as a batch."""
        I_t, unpaired = (x if x is None else x[rows] for x in (self.I_t, self.unpaired))
        return Batch(self.I_i[rows], self.u_i[rows], self.c_i[rows], self.u_t[rows], I_t, unpaired)


@dataclass(frozen=True)
class TrainingRows:
    """Faces ready to draw from: classes of the identities, and the rows of each shot side by side."""

    faces: Faces

    @cached_property
    def classes(self) -> Tensor:
        """int64 (N,): position of the row's identity in `faces.people`."""
        return torch.from_numpy(np.searchsorted(self.faces.people, self.faces.identity.astype(str)))

    @cached_property
    def one_sided(self) -> Tensor:
        """Which rows show an expression of one side of the face, always the same, bool (N,): contempt.

        An AU is the mean of both sides, so nothing but the picture says which it is. Mirrored at random, such an
        expression would be learned on both sides and half as strong.
        """
        return torch.from_numpy(self.faces.emotion.astype(str) == "contemptuous")

    @cached_property
    def shots(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows ordered by shot; and for each row its shot, for each shot its first position and its size."""
        shot = torch.from_numpy(self.faces.shots)
        size = torch.bincount(shot)
        return torch.argsort(shot, stable=True), shot, torch.cumsum(size, 0) - size, size

    @cached_property
    def neutral(self) -> Tensor:
        """`Faces.neutral`, int64 (N,)."""
        return torch.from_numpy(self.faces.neutral)


class Photographs(NamedTuple):
    """Aligned photographs of anybody, uint8 (M, 3, S, S), and their AUs / 5 as C_exp reads them, (M, 17).

    AUs are None where the photographs only lend background and tone.
    """

    images: Tensor
    u: Tensor | None


def draw_batch(
    rows: TrainingRows,
    batch_size: int,
    *,
    paired: bool,
    generator: torch.Generator,
    part: slice = slice(None),
    device: torch.device = CPU,
    from_neutral: float = 0.0,
    randomised: bool = False,
    photos: Photographs | None = None,
    unpaired: int = 0,
) -> Batch:
    """Draw sources at random and a target for each.

    Args:
        rows: the faces to draw from.
        batch_size: number of sources B.
        paired: the target is any row of the source's identity and session, and its image is `I_t`;
            else its AUs are those of any row, and there is no true image.
        generator: the run's one source of randomness; what is taken from it depends on neither part nor device.
        part: the rows of the batch that are wanted; choices are drawn for all.
        device: where the batch is to be.
        from_neutral: share of the pairs whose source is the neutral image of its shot, if there is one.
        randomised: faces are placed and lit as photographs may be, some with beards, and u_i is as inexact as an
            estimator's.
        photos: photographs that lend their background and tone.
        unpaired: where n > 0, every n-th source is one of `photos` itself, and about half of those are asked for the
            AUs of any row, the others for their own but one, which is drawn; so is the face after each.

    Returns:
        The part of an augmented batch; a source and its `I_t` are treated alike, and mirrored where neither is of one
        side.
    """
    faces = rows.faces
    i = torch.randint(len(faces), (batch_size,), generator=generator)
    if paired:
        order, shot, first, size = rows.shots
        step = torch.rand(batch_size, generator=generator) * size[shot[i]]
        t = order[first[shot[i]] + step.long()]
        if from_neutral:
            i = torch.where(torch.rand(batch_size, generator=generator) < from_neutral, rows.neutral[i], i)
    else:
        t = torch.randint(len(faces), (batch_size,), generator=generator)
    look = draw_look(batch_size, generator)
    look[:, 0] *= ~(rows.one_sided[i] | rows.one_sided[t])
    teeth = beards = place = light = shadow = behind = setting = new = None
    shown = torch.stack([i, t], dim=1)[part] if paired else i[part].unsqueeze(1)
    pixels = faces.images[shown]
    u_i, c_i, u_t = faces.action_units[i] / MAX_INTENSITY, rows.classes[i], faces.action_units[t] / MAX_INTENSITY
    if randomised:
        teeth = draw_teeth(batch_size, generator)
        if faces.landmarks is not None:
            beards = draw_beards(batch_size, pixels.shape[-1], generator)
        place = _half(draw_place(batch_size, generator), AS_IT_STANDS, generator)
        light = _half(draw_light(batch_size, generator), AS_IT_IS_LIT, generator)
        shadow = draw_shadow(batch_size, generator)
        u_i = (u_i + _source_noise(batch_size, generator)).clamp(0, 1)
    if photos is not None:
        behind = photos.images[torch.randint(len(photos.images), (batch_size,), generator=generator)[part]]
        setting = draw_setting(batch_size, generator)
        if unpaired:
            assert photos.u is not None, "sources need AUs"
            turn = torch.arange(batch_size) % unpaired
            photo, new = turn == 0, turn <= 1
            j = torch.randint(len(photos.images), (batch_size,), generator=generator)
            pixels[photo[part]] = photos.images[j[part][photo[part]]].unsqueeze(1)
            u_i[photo], c_i[photo], setting[photo] = photos.u[j[photo]], NOBODY, 0
            if teeth is not None:
                teeth[photo] = 1
            if beards is not None:
                beards.parts[photo] = 0
            one = new & ~(photo & (torch.rand(batch_size, generator=generator) < 0.5))
            u_t[one] = _with_one_set(u_i, generator)[one]

    def own(x: Tensor) -> Tensor:
        return moved(x[part], device)

    images = with_look(moved(pixels, device), own(look))
    if teeth is not None:
        images = with_teeth(images, own(teeth))
    if beards is not None and faces.landmarks is not None:
        points = faces.landmarks[shown]
        points[..., 0] *= 1 - 2 * look[part][:, :1, None]
        images = with_beards(images, moved(points, device), Beards(*map(own, beards)))
    if place is not None:
        images = with_place(images, own(place))
    if setting is not None and behind is not None:
        images = with_setting(images, to_floats(moved(behind, device)), own(setting))
    if shadow is not None:
        images = with_shadow(images, own(shadow))
    if light is not None:
        images = with_light(images, own(light))
    return Batch(
        I_i=images[:, 0].contiguous(memory_format=torch.channels_last),
        u_i=own(u_i),
        c_i=own(c_i),
        u_t=own(u_t),
        I_t=images[:, 1].contiguous(memory_format=torch.channels_last) if paired else None,
        unpaired=None if new is None else new[part],
    )


def _half(choices: Tensor, none: list[float], generator: torch.Generator) -> Tensor:
    """Choices (B, n) for about every second item, for the others those that change nothing."""
    return torch.where(torch.rand(len(choices), 1, generator=generator) < 0.5, choices, torch.tensor(none))


def _with_one_set(u: Tensor, generator: torch.Generator) -> Tensor:
    """AUs / 5 (B, 17) with one of each row set to anything; an open jaw parts the lips, as in every render."""
    k = torch.randint(len(NUMBERS), (len(u), 1), generator=generator)
    u = u.scatter(1, k, torch.rand(len(u), 1, generator=generator))
    lips, jaw = NUMBERS.index(25), NUMBERS.index(26)
    u[:, lips] = torch.maximum(u[:, lips], LIPS_OF_JAW * u[:, jaw])
    return u


def _source_noise(batch_size: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(batch_size, len(NUMBERS), generator=generator)
    return SOURCE_NOISE * noise * (torch.rand(batch_size, 1, generator=generator) < 0.5)


def moved(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a copy to a GPU goes on beside what the GPU is doing."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
