"""Training batches, drawn from faces in memory: which rows, which targets, and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from eggan.action_units import MAX_INTENSITY
from eggan.data.faces_file import Faces

__all__ = ["Batch", "TrainingRows", "augment", "draw_batch", "relight"]


@dataclass(frozen=True)
class Batch:
    """One training batch, in the paper's symbols.

    Attributes:
        I_i: source images, float32 (B, 3, S, S) in [-1, 1].
        u_i: their AU intensities / 5, (B, 17) in [0, 1].
        c_i: their identities' classes, int64 (B,).
        u_t: target AU intensities / 5, (B, 17).
        I_t: the true image of that target, same person and session, (B, 3, S, S); None where it is not known.
    """

    I_i: Tensor
    u_i: Tensor
    c_i: Tensor
    u_t: Tensor
    I_t: Tensor | None


@dataclass(frozen=True)
class TrainingRows:
    """Faces ready to draw from: classes of the identities, and the rows of each shot side by side."""

    faces: Faces

    @cached_property
    def classes(self) -> Tensor:
        """int64 (N,): position of the row's identity in `faces.people`."""
        return torch.from_numpy(np.searchsorted(self.faces.people, self.faces.identity.astype(str)))

    @cached_property
    def shots(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows ordered by shot; and for each row its shot, for each shot its first position and its size."""
        shot = torch.from_numpy(self.faces.shots)
        size = torch.bincount(shot)
        return torch.argsort(shot, stable=True), shot, torch.cumsum(size, 0) - size, size


def draw_batch(
    rows: TrainingRows, batch_size: int, *, paired: bool, generator: torch.Generator, relit: bool = False
) -> Batch:
    """Draw sources at random and a target for each.

    Args:
        rows: the faces to draw from.
        batch_size: number of sources B.
        paired: the target is any row of the source's identity and session, and its image is `I_t`;
            else its AUs are those of any row, and there is no true image.
        generator: the run's one source of randomness.
        relit: `relight` them too.

    Returns:
        An augmented batch; a source and its `I_t` are augmented alike.
    """
    faces = rows.faces
    i = torch.randint(len(faces), (batch_size,), generator=generator)
    if paired:
        order, shot, first, size = rows.shots
        step = torch.rand(batch_size, generator=generator) * size[shot[i]]
        t = order[first[shot[i]] + step.long()]
        images = torch.stack([faces.images[i], faces.images[t]], dim=1)
    else:
        t = torch.randint(len(faces), (batch_size,), generator=generator)
        images = faces.images[i].unsqueeze(1)
    images = augment(images, generator)
    if relit:
        images = relight(images, generator)
    return Batch(
        I_i=images[:, 0].contiguous(memory_format=torch.channels_last),
        u_i=faces.action_units[i] / MAX_INTENSITY,
        c_i=rows.classes[i],
        u_t=faces.action_units[t] / MAX_INTENSITY,
        I_t=images[:, 1].contiguous(memory_format=torch.channels_last) if paired else None,
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror at random and jitter brightness, contrast and saturation a little.

    Args:
        images: uint8 (B, K, 3, S, S); the K images of one item are treated alike.
        generator: source of randomness.

    Returns:
        float32 of the same shape in [-1, 1]. AU intensities are means of both sides, so mirroring keeps them.
    """
    b = images.shape[0]
    mirrored = torch.rand(b, generator=generator) < 0.5
    images = torch.where(mirrored.view(b, 1, 1, 1, 1), images.flip(-1), images)
    x = images.float() / 127.5 - 1
    gain, contrast, saturation = (1 + 0.1 * (2 * torch.rand(3, b, 1, 1, 1, 1, generator=generator) - 1)).unbind()
    grey = x.mean(dim=2, keepdim=True)
    x = grey + saturation * (x - grey)
    mean = x.mean(dim=(1, 2, 3, 4), keepdim=True)
    x = (mean + contrast * (x - mean) + 1) * gain - 1
    return x.clamp(-1, 1)


def relight(x: Tensor, generator: torch.Generator) -> Tensor:
    """Another lamp and camera: colour of the light, side it falls from, saturation, gamma.

    The range reaches from a face in the shade, where a dark skin is nearly black, to one in the sun. The sessions of
    one person differ in these, so that none may tell people apart.

    Args:
        x: images (B, 3, S, S) or (B, K, 3, S, S) in [-1, 1]; the K images of one item are treated alike.
        generator: source of randomness.

    Returns:
        The same shape in [-1, 1].
    """
    each = (len(x), *[1] * (x.dim() - 4))

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(*each, channels, 1, 1, generator=generator)

    x = (x + 1) / 2
    grey = x.mean(dim=-3, keepdim=True)
    x = grey + uniform(0.6, 1.3) * (x - grey)
    x = x.clamp(0.002, 1) ** uniform(-0.5, 0.5).exp()
    side = x.shape[-1]
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    slope = uniform(-0.4, 0.4) * axis + uniform(-0.4, 0.4) * axis[:, None]
    x = x * (uniform(-0.7, 0.4) + uniform(-0.12, 0.12, 3) + slope).exp()
    return 2 * x.clamp(0, 1) - 1
