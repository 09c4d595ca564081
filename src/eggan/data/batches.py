"""Training batches, drawn from faces in memory: which rows, which targets, and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from eggan.action_units import MAX_INTENSITY
from eggan.data.faces_file import Faces
from eggan.pixels import to_floats

__all__ = ["Batch", "TrainingRows", "augment", "draw_batch", "moved", "relight"]

CPU = torch.device("cpu")


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

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the rows, as a batch."""
        I_t = None if self.I_t is None else self.I_t[rows]
        return Batch(self.I_i[rows], self.u_i[rows], self.c_i[rows], self.u_t[rows], I_t)


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
    rows: TrainingRows,
    batch_size: int,
    *,
    paired: bool,
    generator: torch.Generator,
    part: slice = slice(None),
    device: torch.device = CPU,
    relit: bool = False,
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
        relit: `relight` the images too.

    Returns:
        The part of an augmented batch; a source and its `I_t` are augmented alike.
    """
    faces = rows.faces
    i = torch.randint(len(faces), (batch_size,), generator=generator)
    if paired:
        order, shot, first, size = rows.shots
        step = torch.rand(batch_size, generator=generator) * size[shot[i]]
        t = order[first[shot[i]] + step.long()]
    else:
        t = torch.randint(len(faces), (batch_size,), generator=generator)
    look = draw_look(batch_size, generator)[part]
    light = draw_light(batch_size, generator)[part] if relit else None
    i, t = i[part], t[part]
    pixels = faces.images[torch.stack([i, t], dim=1) if paired else i.unsqueeze(1)]
    pixels, look, u_i, c_i, u_t = (
        moved(x, device) for x in (pixels, look, faces.action_units[i], rows.classes[i], faces.action_units[t])
    )
    images = with_look(pixels, look)
    if light is not None:
        images = with_light(images, moved(light, device))
    return Batch(
        I_i=images[:, 0].contiguous(memory_format=torch.channels_last),
        u_i=u_i / MAX_INTENSITY,
        c_i=c_i,
        u_t=u_t / MAX_INTENSITY,
        I_t=images[:, 1].contiguous(memory_format=torch.channels_last) if paired else None,
    )


def moved(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a copy to a GPU goes on beside what the GPU is doing."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror at random and jitter brightness, contrast and saturation a little.

    Args:
        images: uint8 (B, K, 3, S, S); the K images of one item are treated alike.
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
    mirrored, gain, contrast, saturation = look[..., None, None, None, None].unbind(1)
    x = to_floats(torch.where(mirrored > 0, images.flip(-1), images))
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
    return with_light(x, draw_light(len(x), generator))


def draw_light(batch_size: int, generator: torch.Generator) -> Tensor:
    """Saturation, and logarithms of gamma, of brightness at the middle, of its slopes across and down, of R, G, B."""
    low = torch.tensor([0.6, -0.5, -0.7, -0.4, -0.4, -0.12, -0.12, -0.12])
    high = torch.tensor([1.3, 0.5, 0.4, 0.4, 0.4, 0.12, 0.12, 0.12])
    return low + (high - low) * torch.rand(batch_size, len(low), generator=generator)


def with_light(x: Tensor, light: Tensor) -> Tensor:
    """Images as `relight` returns them, by the choices of `draw_light`."""
    saturation, gamma, middle, across, down = light[:, :5].view(len(light), 5, *[1] * (x.dim() - 1)).unbind(1)
    tint = light[:, 5:].view(len(light), *[1] * (x.dim() - 4), 3, 1, 1)
    x = (x + 1) / 2
    grey = x.mean(dim=-3, keepdim=True)
    x = (grey + saturation * (x - grey)).clamp(0.002, 1) ** gamma.exp()
    side = x.shape[-1]
    axis = (torch.arange(side, device=x.device) + 0.5) / side * 2 - 1
    x = x * (middle + across * axis + down * axis[:, None] + tint).exp()
    return 2 * x.clamp(0, 1) - 1
