"""The built-in Action Unit estimator: what a face does now, read off the picture.

It gives the editor the source's intensities and evaluation its reading of an edit. It is trained apart from the
editor (`eggan.training.estimator`): another architecture and seed than C_exp, and never used as a loss.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from eggan.action_units import MAX_INTENSITY, NUMBERS
from eggan.networks import channels_last, resized
from eggan.weights import load_weights

__all__ = ["BATCH", "STEPS", "ActionUnitEstimator", "EstimatorConfig", "as_steps"]

BATCH = 16
"""Faces read at once: so many stay in a core's cache, a quarter faster than 64."""
STEPS = int(MAX_INTENSITY)
"""Steps of an intensity: 0 to 1, 1 to 2, … 4 to 5."""


class EstimatorConfig(BaseModel):
    """Shape of the estimator: input side in pixels (a multiple of 16), widths of the stages and of the hidden layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = 128
    widths: tuple[int, int, int, int] = (32, 48, 96, 128)
    hidden: int = 128


class ActionUnitEstimator(nn.Module):
    """Residual network from an aligned face to 17 AU intensities, each as five steps.

    | part   | layers                                                      | output for S = 128 |
    |--------|-------------------------------------------------------------|--------------------|
    | stem   | 5×5 conv stride 2, BatchNorm, ReLU, residual block          | 32 × 64 × 64       |
    | stages | 3 × (3×3 conv stride 2, BatchNorm, ReLU, 2 residual blocks) | 128 × 8 × 8        |
    | head   | 1×1 conv to 32, flatten, dropout, FC hidden, ReLU, FC 17·5  | 17 × 5             |

    Eyes are 14 pixels wide at 128, so the first block works at half resolution; and the head sees where in the face
    a feature lies (no global pooling): an AU is a place as much as a shape. It says of each step how far it is climbed
    (`as_steps`, in the manner of ordinal regression), and an intensity is the sum of its steps: so a trace of an AU is
    read as a trace, where a number that is cut off at 0 reads nothing.
    """

    name = "built-in estimator"

    def __init__(self, config: EstimatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EstimatorConfig()
        w = config.widths
        layers = [*_conv_norm_relu(3, w[0], 5), _Residual(w[0])]
        for before, width in pairwise(w):
            layers += [*_conv_norm_relu(before, width, 3), _Residual(width), _Residual(width)]
        self.features = nn.Sequential(*layers)
        cells = (config.image_size // 16) ** 2
        self.head = nn.Sequential(
            nn.Conv2d(w[-1], 32, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32 * cells, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, len(NUMBERS) * STEPS),
            nn.Unflatten(1, (len(NUMBERS), STEPS)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] of the configured size to logits (B, 17, 5) of their steps."""
        return self.head(self.features(images))

    @torch.inference_mode()
    def steps(self, images: Tensor, batch_size: int = BATCH) -> Tensor:
        """How far each step is climbed, (B, 17, 5) in 0..1, by aligned faces (B, 3, H, H) in [-1, 1] of any size.

        An intensity is the mean of both halves of the face, so a face and its mirror image are read together: the
        mean of the two readings, which no mirror can change.
        """
        readings = []
        for chunk in images.split(batch_size):
            chunk = resized(chunk, self.config.image_size).contiguous(memory_format=torch.channels_last)
            readings.append((self(chunk).sigmoid() + self(chunk.flip(-1)).sigmoid()) / 2)
        return torch.cat(readings)

    def read(self, images: Tensor, batch_size: int = BATCH) -> Tensor:
        """Intensities (B, 17) in 0..5 of aligned faces (B, 3, H, H) in [-1, 1] of any size."""
        return self.steps(images, batch_size).sum(dim=2)

    @classmethod
    def from_pretrained(cls, name: str | Path = "estimator") -> ActionUnitEstimator:
        """The shipped estimator, or the one in a folder, in evaluation mode."""
        return channels_last(load_weights(name, cls, EstimatorConfig))


def as_steps(intensities: Tensor) -> Tensor:
    """Intensities (B, 17) in 0..5 as five steps, (B, 17, 5) in 0..1: step k is climbed by min(max(u - k, 0), 1)."""
    return (intensities.unsqueeze(2) - torch.arange(STEPS, device=intensities.device)).clamp(0, 1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def _conv_norm_relu(before: int, width: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(before, width, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
