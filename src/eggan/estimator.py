"""The built-in Action Unit estimator: what a face does now, read off the picture.

It gives the editor the source's intensities and evaluation its reading of an edit. It is trained apart from the
editor (`eggan.training.estimator`): another architecture and seed than C_exp, and never used as a loss.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.functional import interpolate

from eggan.action_units import MAX_INTENSITY, NUMBERS
from eggan.weights import find_weights, read_config, read_tensors

__all__ = ["ActionUnitEstimator", "EstimatorConfig"]


class EstimatorConfig(BaseModel):
    """Shape of the estimator: input side in pixels (a multiple of 32), stage widths, size of the last layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = 128
    widths: tuple[int, int, int, int, int] = (24, 48, 96, 128, 160)
    hidden: int = 128


class ActionUnitEstimator(nn.Module):
    """Residual network from an aligned face to 17 AU intensities.

    | part   | layers                                            | output for S = 128 |
    |--------|---------------------------------------------------|--------------------|
    | stem   | 5×5 conv stride 2, BatchNorm, ReLU                | 24 × 64 × 64       |
    | stages | 4 × (3×3 conv stride 2, BatchNorm, ReLU, 1 or 2 residual blocks) | 160 × 4 × 4 |
    | head   | flatten, dropout, FC hidden, ReLU, FC 17          | 17                 |

    The head sees where in the face a feature lies (no global pooling): an AU is a place as much as a shape.
    """

    def __init__(self, config: EstimatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EstimatorConfig()
        w = config.widths
        layers: list[nn.Module] = [nn.Conv2d(3, w[0], 5, 2, 2, bias=False), nn.BatchNorm2d(w[0]), nn.ReLU()]
        for before, width in zip(w, w[1:], strict=False):
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [_Residual(width), _Residual(width)] if width < w[-1] else [_Residual(width)]
        self.features = nn.Sequential(*layers)
        cells = (config.image_size // 32) ** 2
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(w[-1] * cells, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, len(NUMBERS)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] of the configured size to unclamped intensities (B, 17)."""
        return self.head(self.features(images))

    @torch.inference_mode()
    def read(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Intensities (B, 17) in 0..5 of aligned faces (B, 3, H, H) in [-1, 1] of any size."""
        size = self.config.image_size
        readings = []
        for chunk in images.split(batch_size):
            if chunk.shape[-1] != size:
                chunk = interpolate(chunk, (size, size), mode="bicubic", align_corners=False, antialias=True)
            readings.append(self(chunk.contiguous(memory_format=torch.channels_last)).clamp(0, MAX_INTENSITY))
        return torch.cat(readings)

    @classmethod
    def from_pretrained(cls, name: str | Path = "estimator") -> ActionUnitEstimator:
        """The shipped estimator, or the one in a folder, in evaluation mode."""
        folder = find_weights(name)
        model = cls(read_config(folder, EstimatorConfig))
        read_tensors(folder, model)
        return model.eval().to(memory_format=torch.channels_last)


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
