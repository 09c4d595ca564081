"""Training batches, drawn from faces in memory: which rows and which targets, and in which appearance."""

from __future__ import annotations

from collections.abc import Callable
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
    i, t = _draw_rows(rows, batch_size, paired, from_neutral, generator)
    shown = torch.stack([i, t], dim=1)[part] if paired else i[part].unsqueeze(1)
    pixels, landmarks = faces.images[shown], None
    u_i, c_i, u_t = faces.action_units[i] / MAX_INTENSITY, rows.classes[i], faces.action_units[t] / MAX_INTENSITY
    looks = _Looks(draw_look(batch_size, generator))
    looks.look[:, 0] *= ~(rows.one_sided[i] | rows.one_sided[t])
    if randomised:
        landmarks = None if faces.landmarks is None else faces.landmarks[shown]
        looks = _randomised(looks, pixels.shape[-1], landmarks is not None, generator)
        u_i = (u_i + _source_noise(batch_size, generator)).clamp(0, 1)
    behind = new = None
    if photos is not None:
        behind = photos.images[torch.randint(len(photos.images), (batch_size,), generator=generator)[part]]
        looks = looks._replace(setting=draw_setting(batch_size, generator))
        if unpaired:
            assert photos.u is not None, "sources need AUs"
            turn = torch.arange(batch_size) % unpaired
            photo, new = turn == 0, turn <= 1
            j = torch.randint(len(photos.images), (batch_size,), generator=generator)
            pixels[photo[part]] = photos.images[j[part][photo[part]]].unsqueeze(1)
            u_i[photo], c_i[photo] = photos.u[j[photo]], NOBODY
            looks.spare(photo)
            one = new & ~(photo & (torch.rand(batch_size, generator=generator) < 0.5))
            u_t[one] = _with_one_set(u_i, generator)[one]

    def own(x: Tensor) -> Tensor:
        return moved(x[part], device)

    landmarks, behind = (x if x is None else moved(x, device) for x in (landmarks, behind))
    images = _shown(moved(pixels, device), landmarks, behind, looks.each(own))
    return Batch(
        I_i=images[:, 0].contiguous(memory_format=torch.channels_last),
        u_i=own(u_i),
        c_i=own(c_i),
        u_t=own(u_t),
        I_t=images[:, 1].contiguous(memory_format=torch.channels_last) if paired else None,
        unpaired=None if new is None else new[part],
    )


class _Looks(NamedTuple):
    """How items are shown: choices of `eggan.data.appearance` and of beards, a row an item; None where nobody's."""

    look: Tensor
    teeth: Tensor | None = None
    beards: Beards | None = None
    place: Tensor | None = None
    light: Tensor | None = None
    shadow: Tensor | None = None
    setting: Tensor | None = None

    def spare(self, photo: Tensor) -> None:
        """Leave photographs, bool (B,), the teeth, chins and surroundings that they have."""
        if self.teeth is not None:
            self.teeth[photo] = 1
        if self.beards is not None:
            self.beards.parts[photo] = 0
        if self.setting is not None:
            self.setting[photo] = 0

    def each(self, change: Callable[[Tensor], Tensor]) -> _Looks:
        """The same with every tensor changed."""
        beards = None if self.beards is None else Beards(*map(change, self.beards))
        others = {name: change(x) for name, x in self._asdict().items() if isinstance(x, Tensor)}
        return _Looks(**others, beards=beards)


def _draw_rows(
    rows: TrainingRows, batch_size: int, paired: bool, from_neutral: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of sources and of their targets, int64 (B,) each."""
    i = torch.randint(len(rows.faces), (batch_size,), generator=generator)
    if not paired:
        return i, torch.randint(len(rows.faces), (batch_size,), generator=generator)
    order, shot, first, size = rows.shots
    step = torch.rand(batch_size, generator=generator) * size[shot[i]]
    t = order[first[shot[i]] + step.long()]
    if from_neutral:
        i = torch.where(torch.rand(batch_size, generator=generator) < from_neutral, rows.neutral[i], i)
    return i, t


def _randomised(looks: _Looks, side: int, bearded: bool, generator: torch.Generator) -> _Looks:
    """Placed and lit as photographs may be, with teeth as warm as people's, some with beards."""
    b = len(looks.look)
    return looks._replace(
        teeth=draw_teeth(b, generator),
        beards=draw_beards(b, side, generator) if bearded else None,
        place=_half(draw_place(b, generator), AS_IT_STANDS, generator),
        light=_half(draw_light(b, generator), AS_IT_IS_LIT, generator),
        shadow=draw_shadow(b, generator),
    )


def _shown(pixels: Tensor, landmarks: Tensor | None, behind: Tensor | None, looks: _Looks) -> Tensor:
    """Faces uint8 (B, K, 3, S, S) as these looks have them: float32 in [-1, 1].

    Args:
        pixels: the faces.
        landmarks: theirs, (B, K, 68, 2), for beards.
        behind: photographs uint8 (B, 3, S, S), for the setting.
        looks: the choices.
    """
    images = with_look(pixels, looks.look)
    if looks.teeth is not None:
        images = with_teeth(images, looks.teeth)
    if looks.beards is not None and landmarks is not None:
        mirror = torch.stack([1 - 2 * looks.look[:, 0], torch.ones_like(looks.look[:, 0])], dim=1)
        images = with_beards(images, landmarks * mirror[:, None, None], looks.beards)
    if looks.place is not None:
        images = with_place(images, looks.place)
    if looks.setting is not None and behind is not None:
        images = with_setting(images, to_floats(behind), looks.setting)
    if looks.shadow is not None:
        images = with_shadow(images, looks.shadow)
    if looks.light is not None:
        images = with_light(images, looks.light)
    return images


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
